"""Drawn images with captions: one shape, its colour, size and place.

Images are 32 x 32 RGB PNG files. Every caption is true of its image; the
exact position varies a little, so that no two images are the same file by
rule. Some (shape, colour, size, place) combinations are kept for dev and test.
"""

import dataclasses
import io
import itertools

import numpy as np

from step_audio_jax.storage import files

SIZE = 32
COLOURS = {
  'red': ((220, 40, 40), '红色'),
  'blue': ((40, 70, 220), '蓝色'),
  'green': ((40, 170, 60), '绿色'),
  'yellow': ((235, 210, 50), '黄色'),
  'white': ((240, 240, 240), '白色'),
}
SHAPES = {'circle': '圆', 'square': '方块', 'triangle': '三角'}
PLACES = {
  'on the left': ((9, 16), '左边'),
  'on the right': ((23, 16), '右边'),
  'at the top': ((16, 9), '上面'),
  'at the bottom': ((16, 23), '下面'),
  'in the middle': ((16, 16), '中间'),
}
SIZES = {'small': (4, '小'), 'big': (7, '大')}


@dataclasses.dataclass(frozen=True)
class Scene:
  """What an image shows, in the words of its caption."""

  size: str
  colour: str
  shape: str
  place: str

  def caption(self, language: str) -> str:
    """The caption in `en` or `zh`."""
    if language == 'zh':
      return (
        f'{PLACES[self.place][1]}有一个{SIZES[self.size][1]}的'
        f'{COLOURS[self.colour][1]}{SHAPES[self.shape]}'
      )
    return f'a {self.size} {self.colour} {self.shape} {self.place}'


def scenes() -> list[Scene]:
  """Every scene there is, in a fixed order."""
  return [
    Scene(*parts) for parts in itertools.product(SIZES, COLOURS, SHAPES, PLACES)
  ]


def draw(scene: Scene, rng: np.random.Generator) -> np.ndarray:
  """Draws a scene: uint8 (32, 32, 3); place and size vary by a pixel or two."""
  from PIL import Image
  from PIL import ImageDraw

  background = tuple(int(v) for v in rng.integers(0, 40, 3))
  image = Image.new('RGB', (SIZE, SIZE), background)
  pen = ImageDraw.Draw(image)
  (x, y), _ = PLACES[scene.place]
  x, y = (int(v + rng.integers(-1, 2)) for v in (x, y))
  r = int(SIZES[scene.size][0] + rng.integers(0, 2))
  colour = COLOURS[scene.colour][0]
  box = (x - r, y - r, x + r, y + r)
  if scene.shape == 'circle':
    pen.ellipse(box, fill=colour)
  elif scene.shape == 'square':
    pen.rectangle(box, fill=colour)
  else:
    pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=colour)
  return np.asarray(image)


def png(pixels: np.ndarray) -> bytes:
  """Pixels uint8 (H, W, 3) → the bytes of a PNG file."""
  from PIL import Image

  out = io.BytesIO()
  Image.fromarray(pixels).save(out, format='PNG')
  return out.getvalue()


def load(path, size: int = SIZE) -> np.ndarray:
  """Reads an image file as uint8 (size, size, 3) RGB.

  Raises:
    ValueError: The file is no image that pillow can read.
  """
  from PIL import Image

  try:
    with files.open_read(path) as handle, Image.open(handle) as image:
      image = image.convert('RGB')
      if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
      return np.asarray(image)
  except (OSError, SyntaxError) as error:
    raise ValueError(f'not a readable image: {error}') from error
