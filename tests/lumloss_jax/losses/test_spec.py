"""Loss specs: text to parts and back, mistakes marked in place, and nothing evaluated."""

import copy
import pickle
import re

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import pytest

from lumloss_jax import losses
from lumloss_jax.losses import LossSpec, LossTerm, parse_loss
from lumloss_jax.losses._spec import LOSSES

weights = st.floats(0, allow_infinity=False, allow_nan=False) | st.integers(0, 10**6)
scales = st.floats(1e-18, 1e6)
factors = st.floats(1e-6, 1e6)
thirds = st.sampled_from([(0.2, 0.3, 0.5), (1, 0, 0), (0.25, 0.25, 0.5)])
OPTIONS = {
    "charbonnier": {"epsilon": scales},
    "cidnet": {
        "k": factors,
        "l1_weight": weights,
        "ssim_weight": weights,
        "edge_weight": weights,
        "hvi_weight": weights,
    },
    "ciede2000": {
        "lightness_factor": factors,
        "chroma_factor": factors,
        "hue_factor": factors,
        "data_range": scales,
    },
    "flip": {"pixels_per_degree": scales, "floor": weights, "data_range": scales},
    "frequency": {"spectrum": st.sampled_from(["complex", "amplitude"])},
    "gradient": {"operator": st.sampled_from(["sobel", "difference"])},
    "haarpsi": {"data_range": scales},
    "huber": {"delta": scales},
    "hvi": {"loss": st.sampled_from(["l1", "0.5*ssim + huber(delta=0.1)", "mse"]), "k": factors},
    "l1": {},
    "laplacian": {},
    "luminance_l1": {
        "luminance_weight": weights,
        "color_weight": weights,
        "brightness": st.sampled_from(["luma", "luminance", "lightness"]),
        "coefficients": st.none() | st.sampled_from(["rec601", "rec709", "rec2020"]) | thirds,
        "window_size": st.integers(0, 50).map(lambda n: 2 * n + 1),
        "window": st.sampled_from(["box", "gaussian"]),
        "window_sigma": scales,
        "penalty": st.sampled_from(["l1", "l2", "charbonnier", "huber"]),
        "charbonnier_epsilon": scales,
        "huber_delta": scales,
        "color_space": st.sampled_from(["rgb", "lab", "hvi", ("oklab", (1, 2, 2.5))]),
    },
    "ms_ssim": {
        "scale_weights": st.lists(scales, min_size=1, max_size=5).map(tuple),
        "data_range": scales,
    },
    "mse": {},
    "psnr": {},
    "nlpd": {"data_range": scales},
    "ssim": {"data_range": scales},
}


@st.composite
def specs(draw):
    terms = {}
    for name in draw(st.lists(st.sampled_from(sorted(OPTIONS)), min_size=1, max_size=4)):
        options = {
            option: draw(values) for option, values in OPTIONS[name].items() if draw(st.booleans())
        }
        if options.get("window") != "gaussian":
            options.pop("window_sigma", None)
        for penalty, scale in (("charbonnier", "charbonnier_epsilon"), ("huber", "huber_delta")):
            if options.get("penalty") != penalty:
                options.pop(scale, None)
        term = LossTerm(draw(weights), name, tuple(options.items()))
        terms[term.label] = term
    return LossSpec(tuple(terms.values()))


def test_the_table_above_holds_every_loss_and_option():
    assert {name: set(options) for name, options in OPTIONS.items()} == {
        n: set(e.checks) for n, e in LOSSES.items()
    }
    assert all(entry.function.__name__ == f"{name}_loss" for name, entry in LOSSES.items())
    assert all(
        getattr(losses, entry.function.__name__) is entry.function for entry in LOSSES.values()
    )


@hypothesis.given(specs())
def test_what_is_printed_is_read_back_the_same(spec):
    text = str(spec)
    again = parse_loss(text)
    assert again == spec and hash(again) == hash(spec)
    assert str(again) == text  # one canonical form: printing what was read changes nothing
    assert parse_loss(text.replace(" + ", "\n+\t").replace("*", " * ")) == spec


@hypothesis.given(
    st.text(alphabet=st.sampled_from("l1mse_sim0.5*+-()=,'\" \t\n[]{}:abé\0\\#@"), max_size=40)
)
def test_any_text_gives_a_spec_or_a_value_error(text):
    try:
        spec = parse_loss(text)
    except ValueError:
        return
    assert parse_loss(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("luminance_l1", "luminance_l1"),
        (" l1 ", "l1"),
        ("1*l1", "l1"),
        ("l1*0.5", "0.5*l1"),
        ("l1()", "l1"),
        ("l1 # the baseline", "l1"),
        ("1.0 * l1 + 2.00*mse", "l1 + 2*mse"),
        ("1e-3*mse", "0.001*mse"),
        ("0*l1", "0*l1"),
        ("0.84*ms_ssim + 0.16*l1", "0.84*ms_ssim + 0.16*l1"),
        ("mse + l1", "mse + l1"),  # the order is kept
        ('luminance_l1(window="box", window_size=7)', "luminance_l1(window_size=7)"),  # defaults go
        (
            "luminance_l1(color_weight=1, luminance_weight=2)",
            "luminance_l1(luminance_weight=2, color_weight=1)",
        ),
        (
            "ssim + luminance_l1(window_sigma=2, window='gaussian')",
            "ssim + luminance_l1(window='gaussian', window_sigma=2)",
        ),
        ("luminance_l1(coefficients=None)", "luminance_l1"),
        ("luminance_l1(window_sigma=None, huber_delta=None)", "luminance_l1"),
        ("luminance_l1(penalty='huber', huber_delta=0.05)", "luminance_l1(penalty='huber')"),
        ("luminance_l1(coefficients=(1, 0, 0))", "luminance_l1(coefficients=(1.0, 0.0, 0.0))"),
        (
            "luminance_l1(window_size=3) + luminance_l1",
            "luminance_l1(window_size=3) + luminance_l1",
        ),
        ("ms_ssim(scale_weights=[1, 2])", "ms_ssim(scale_weights=(1.0, 2.0))"),
        ("huber(delta=0.05)", "huber"),
        ("hvi()", "hvi"),
        ("hvi(l1, k=0.2)", "hvi"),
        ("2*hvi(k=0.3)", "2*hvi(k=0.3)"),
        ("l1 + hvi(0.50*l1 + ssim(), k=0.3)", "l1 + hvi(0.5*l1 + ssim, k=0.3)"),
        ("hvi(loss='mse + l1')", "hvi(mse + l1)"),
    ],
)
def test_canonical_form(text, canonical):
    assert str(parse_loss(text)) == canonical
    assert parse_loss(text) == parse_loss(canonical)


def test_a_spec_is_data():
    spec = parse_loss("0.5*luminance_l1(window_size=7) + mse")
    assert spec.terms == (LossTerm(0.5, "luminance_l1", (("window_size", 7),)), LossTerm(1, "mse"))
    assert [term.label for term in spec.terms] == ["luminance_l1(window_size=7)", "mse"]
    assert pickle.loads(pickle.dumps(spec)) == copy.deepcopy(spec) == spec
    with pytest.raises(AttributeError):
        spec.terms = ()


# What stands between « and » is what the mark ^^^ stands under.
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.84*«ms_sim» + 0.16*l1", "unknown loss 'ms_sim'; did you mean 'ms_ssim'?"),
        ("l1 + «L2»", "unknown loss 'L2'"),
        ("«l1_loss»", "did you mean 'l1'?"),
        ("mse + «perceptual»", "needs a feature function"),
        ("«gt_mean»(sigma=0.1)", "wraps a loss"),
        ("«adversarial_generator»", "reads scores"),
        ("l1 + luminance_l1(«windowsize=7»)", "did you mean 'window_size'?"),
        ("luminance_l1(«mask=1»)", "mask is data"),
        ("luminance_l1(window_size=«4»)", "window_size must be odd"),
        ("luminance_l1(window=«7»)", "use window_size=7"),
        ("luminance_l1(penalty=«'l3'»)", "penalty accepts 'l1', 'l2'"),
        ("l1 + 2*«luminance_l1(window_sigma=2)»", "window_sigma is for window='gaussian'"),
        (
            "«luminance_l1(huber_delta=0.05)»",
            "huber_delta is for penalty='huber', but the penalty is 'l1'",
        ),
        (
            "«luminance_l1(penalty='huber', charbonnier_epsilon=1)»",
            "charbonnier_epsilon is for penalty='charbonnier', but the penalty is 'huber'",
        ),
        ("luminance_l1(coefficients=«(1, 1, 1)»)", "must sum to 1"),
        ("luminance_l1(coefficients=«3»)", "coefficients must be a name or three numbers"),
        ("luminance_l1(«7»)", "options are written as name=value"),
        ("luminance_l1(window_size=3, «window_size=5»)", "window_size is given twice"),
        ("l1(«epsilon=1»)", "it has no options"),
        ("charbonnier(epsilon=«0»)", "epsilon must be a finite number above 0"),
        ("charbonnier(epsilon=«True»)", "epsilon must be a finite number above 0"),
        ("charbonnier(epsilon=«'1'»)", "epsilon must be a finite number above 0"),
        ("ms_ssim(scale_weights=«()»)", "scale_weights must be a tuple of numbers"),
        ("ms_ssim(scale_weights=«(1, -1)»)", "scale_weights must be a finite number above 0"),
        ("«-1»*l1", "a finite number, 0 or more; got -1"),
        ("«1e999»*l1", "a finite number, 0 or more; got inf"),
        ("«'2'»*l1", "a finite number, 0 or more"),
        ("«mse + l1 - mse»", "other operators"),
        ("«l1/2»", "other operators"),
        ("2*(«l1 + mse»)", "without brackets"),
        ("«2*3»*l1", "there must be a plain value"),
        ("«l1*mse»", "losses can be added but not multiplied"),
        ("«0.5»", "a term must be the name of a loss"),
        ("l1 + mse + «l1»", "l1 occurs twice"),
        ("luminance_l1(window='box') + «luminance_l1»", "occurs twice"),
        ("l1 +«»", "cannot read this"),
        ("l1«(»", "cannot read this"),
        ("l1 «m»se", "cannot read this"),
        ("«é» + l1", "unknown loss"),
        ("luminance_l1(brightness=«'é'», penalty='l3')", "brightness accepts"),
        ("luminance_l1(penalty='l2', brightness='luma') + «ü»", "unknown loss"),
        ("0.5*l1 + \n 0.5*«mze»", "did you mean 'mse'?"),
    ],
)
def test_mistakes_are_marked_where_they_stand(text, reason):
    before, place, _ = re.split("[«»]", text)
    text = re.sub("[«»]", "", text)
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        parse_loss(text)
    _, line, mark, *_ = str(caught.value).split("\n")
    assert line == "    " + text.replace("\n", " ")
    assert mark == "    " + " " * len(before) + "^" * max(len(place), 1)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').abort()",
        "__import__('os').abort() * l1",
        "(lambda: 1/0)()*l1",
        "(1/0)*l1",
        "[1/0 for _ in 'a'][0]*l1",
        "l1.__class__",
        "l1.__call__()",
        "l1()()",
        "l1(**{'a': 1})",
        "l1(*[1])",
        "luminance_l1(window_size=abs(7))",
        "luminance_l1(window_size=(lambda: 7)())",
        "luminance_l1(window_size=9**9**9**9)",
        "luminance_l1(window_size=1 if 1 else 2)",
        "luminance_l1(window=f'{1/0}')",
        "luminance_l1(window_size={'a': 1})",
        "(x := 2)*l1",
        "l1; import os",
        "l1\nimport os",
        "lambda: l1",
        "yield l1",
        "await l1",
        "l1 if 1 else mse",
        "l1[0]",
        "l1 == l1",
        "+l1",
        "1j*l1",
        "...",
        "(" * 500 + "l1" + ")" * 500,
        "1*" * 900 + "l1",
        "l1(" * 600,
        "9" * 1900 + "*l1",
        "l1" + " " * 3000 + "+mse",
        "l1\0",
        "\ud800",
        "",
        " \n ",
    ],
)
def test_what_is_more_than_a_sum_is_refused_and_not_run(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse_loss(text)


@pytest.mark.parametrize("thing", [None, 1, b"l1", ["l1"], losses.l1_loss])
def test_a_spec_is_a_string(thing):
    with pytest.raises(ValueError, match="a loss spec is a string"):
        parse_loss(thing)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossTerm(-1, "l1"), "finite number, 0 or more; got -1"),
        (lambda: LossTerm(10**400, "l1"), "finite number, 0 or more"),
        (lambda: LossTerm(1, "l3"), "unknown loss 'l3'"),
        (lambda: LossTerm(1, losses.l1_loss), "the name of a loss must be a string"),
        (lambda: LossTerm(1, "huber", (("delta", 1), ("delta", 2))), "an option twice"),
        (lambda: LossTerm(1, "huber", (("epsilon", 1),)), "unknown option of huber 'epsilon'"),
        (lambda: LossSpec(()), "at least one term"),
        (lambda: LossSpec((LossTerm(1, "l1"), LossTerm(2, "l1"))), "l1 occurs twice"),
    ],
)
def test_specs_made_by_hand_are_checked_too(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("text", "message", "marked"),
    [
        ("l1 + hvi(l3)", "unknown loss 'l3'", "l3"),
        ("hvi(l1 + hvi(ssim))", "hvi cannot contain hvi", "l1 + hvi(ssim)"),
        ("hvi(l1, ssim)", "options are written as name=value", "ssim"),
        ("hvi(0.3)", "must be the name of a loss", "0.3"),
        ("hvi(l1, k=0)", "k must be a finite number", "0"),
        ("l1(ssim)", "options are written as name=value", "ssim"),
    ],
)
def test_mistakes_inside_hvi_are_marked(text, message, marked):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_loss(text)
    shown, mark = str(caught.value).splitlines()[1:3]
    start = mark.index("^")
    assert shown[start : start + mark.count("^")] == marked


def test_losses_inside_hvi_are_terms_of_their_own():
    targets = jnp.full((1, 16, 16, 3), 0.5)
    loss = losses.make_loss("l1 + 2*hvi(mse + 0.5*ssim, k=0.3)")
    total, terms = loss(targets + 0.1, targets)
    assert list(terms) == ["l1", "hvi(mse + 0.5*ssim, k=0.3)", "mse", "ssim"]
    inner = terms["mse"] + 0.5 * terms["ssim"]
    assert abs(terms["hvi(mse + 0.5*ssim, k=0.3)"] - inner) < 1e-6
    assert abs(total - terms["l1"] - 2 * inner) < 1e-6
