"""The study without a server, in a real Chromium, from the first pair to the merged votes."""

from train.__main__ import main


def test_votes_come_back_as_a_file(few, chromium, tmp_path):
    folder = tmp_path / "few"
    assert main(["study", "export", str(folder), "--static", str(tmp_path / "page.html")]) == 0
    context, heard = chromium.new_context(), []
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.on("console", lambda said: heard.append(said.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    page.fill("#distance", "60")
    page.click("#begin button")
    keys = ["ArrowLeft", "ArrowDown", "ArrowRight"]
    for number in range(sum(few.counts())):
        page.wait_for_selector("[data-choice=left]:not([disabled])")
        if number == 3:
            page.reload()  # the browser keeps the votes
            page.wait_for_selector("[data-choice=left]:not([disabled])")
        page.keyboard.press(keys[number % 3])
    page.wait_for_selector("#save[href^=blob]")
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "votes.json")
    context.close()
    assert heard == []
    assert main(["study", "merge", str(folder), str(tmp_path / "votes.json")]) == 0
    rows = few._file.execute("SELECT choice FROM votes ORDER BY position").fetchall()
    wanted = [["left", "none", "right"][number % 3] for number in range(sum(few.counts()))]
    assert [row["choice"] for row in rows] == wanted
