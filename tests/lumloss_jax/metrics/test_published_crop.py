import jax
import jax.numpy as jnp
import numpy as np
import skimage.data

from lumloss_jax import metrics


def test_a_published_network_scores_as_published(golden):
    """Kept are a network's input and the noise that it predicts, blue first; not its weights."""
    clean = jnp.asarray(skimage.data.astronaut()[60:132, 180:260] / 255, jnp.float32)
    with np.load(golden / "pretrained" / "color_DnCNN_55_astronaut_25.npz") as kept:
        noisy, noise = (np.float32(kept[name])[..., ::-1] for name in ("input", "noise"))
    score = jax.jit(metrics.psnr)
    np.testing.assert_allclose(score(noisy, clean), 20.441270, atol=1e-3)
    restored = np.clip(noisy - noise, 0, 1)
    np.testing.assert_allclose(score(restored, clean), 30.293293, atol=1e-3)
    # In the other order of channels the network would seem worse by far
    assert score(restored[..., ::-1], clean) < 29.0
