"""JSON Schema (Draft 2020-12) → alternatives, each without `allOf` and `$ref`.

A place of a schema is named by its JSON pointer, and a node by the set of
places that all hold for a value: so `$ref`, `allOf` and what stands beside
`anyOf` are met in one way, and recursion ends at nodes that are known. What is
not supported is refused by its pointer, never left out.
"""

import dataclasses
import itertools
from typing import Any, Iterable, Mapping
import urllib.parse

from step_audio_jax import errors
from step_audio_jax.generation.schemas import forms as forms_lib
from step_audio_jax.generation.schemas import limits as limits_lib
from step_audio_jax.generation.schemas import scalars

Places, Form = forms_lib.Places, forms_lib.Form

# Says nothing of which values fit.
_NOTES = frozenset(
  'title description default examples example deprecated readOnly writeOnly '
  '$schema $id $anchor $comment $defs definitions discriminator '
  'contentEncoding contentMediaType'.split()
)
_KNOWN = _NOTES | frozenset(
  'type enum const allOf anyOf oneOf $ref properties required '
  'additionalProperties propertyNames minProperties maxProperties items '
  'prefixItems minItems maxItems uniqueItems minLength maxLength pattern '
  'format minimum maximum exclusiveMinimum exclusiveMaximum multipleOf'.split()
)
_DEEPEST, _MERGES = 48, 20_000
_LONGEST = 4000  # characters of a pointer


class Reader:
  """Gives the alternatives of the nodes of one schema.

  Attributes:
    apart: Forms of which no value may fit any, and where that is asked:
      what two branches of a `oneOf` have in common.
  """

  def __init__(self, schema: Any, where: str, limits: limits_lib.Limits):
    self._root, self._where, self._limits = schema, where, limits
    self._schemas: dict[str, Any] = {'#': schema}
    self._known: dict[str, list[Form]] = {}
    self._merges = _MERGES
    self.apart: list[tuple[str, Form]] = []

  def refuse(self, place: str, why: str) -> errors.UserError:
    """The error that names a place."""
    shown = repr(place[:200])[1:-1] + '…' * (len(place) > 200)
    return errors.UserError(f'{self._where}: {shown}: {why}.')

  def forms(self, places: Places) -> list[Form]:
    """The alternatives of a node.

    Raises:
      UserError: Something in it is not supported.
    """
    found = [Form()]
    for place in places:
      found = self._product(place, found, self._of(place, ()))
    return found

  def _product(self, place, one: Iterable[Form], two: Iterable[Form]):
    out = []
    for a, b in itertools.product(one, two):
      if (form := self._met(place, a, b)) is not None:
        out.append(form)
    self._check_count(place, out)
    return out

  def _met(self, place: str, a: Form, b: Form) -> Form | None:
    """What fits both; that many are asked for costs."""
    self._merges -= 1 + (a.size + b.size) // 20
    if self._merges < 0:
      raise self.refuse(place, 'its alternatives are too many to combine')
    return forms_lib.met(a, b)

  def _check_count(self, place: str, forms: list[Form]) -> None:
    most = self._limits.alternatives
    if len(forms) > most:
      raise self.refuse(
        place, f'found {len(forms)} alternatives, expected at most {most}'
      )

  def _sub(self, place: str, *path: str | int, schema: Any) -> str:
    """Names what is inside a place."""
    for part in path:
      part = str(part).replace('~', '~0').replace('/', '~1')
      place = f'{place}/{part}'
    if len(place) > _LONGEST:
      raise self.refuse(place, f'it is longer than {_LONGEST} characters')
    if place not in self._schemas:
      if len(self._schemas) >= self._limits.nodes:
        raise self.refuse(
          '#', f'it has more than {self._limits.nodes} subschemas'
        )
      self._schemas[place] = schema
    return place

  def _referred(self, place: str, ref: Any) -> str:
    if not isinstance(ref, str) or not (ref == '#' or ref.startswith('#/')):
      raise self.refuse(
        f'{place}/$ref', f'found {ref!r:.60}, expected "#/…" of this schema'
      )
    found, target = self._root, '#'
    for part in urllib.parse.unquote(ref).split('/')[1:]:
      key = part.replace('~1', '/').replace('~0', '~')
      if isinstance(found, dict) and key in found:
        found = found[key]
      elif (
        isinstance(found, list) and key.isdecimal() and (int(key) < len(found))
      ):
        found = found[int(key)]
      else:
        raise self.refuse(f'{place}/$ref', f'found {ref!r:.60}, nothing there')
      target = f'{target}/{part}'
    return self._sub(target, schema=found)

  def _of(self, place: str, above: tuple[str, ...]) -> list[Form]:
    if place in self._known:
      return self._known[place]
    if place in above:
      raise self.refuse(place, 'it refers to itself')
    if len(above) >= _DEEPEST:
      raise self.refuse(place, f'it is nested more than {_DEEPEST} deep')
    above = (*above, place)
    schema = self._schemas[place]
    if isinstance(schema, bool):
      found = [Form()] if schema else []
    elif not isinstance(schema, Mapping):
      raise self.refuse(place, f'found {schema!r:.60}, expected a schema')
    else:
      found = self._of_object(place, schema, above)
    self._known[place] = found
    return found

  def _of_object(self, place, schema, above) -> list[Form]:
    for word in schema:
      # What an inner `$id` names has references of its own.
      is_known = word in _KNOWN and (word != '$id' or place == '#')
      if not is_known and not word.startswith('x-'):
        raise self.refuse(
          f'{place}/{word}', 'this keyword is not supported here'
        )
    own = self._own(place, schema)
    found = [] if own is None else [own]
    if '$ref' in schema:
      target = self._referred(place, schema['$ref'])
      found = self._product(place, found, self._of(target, above))
    for word in ('allOf', 'anyOf', 'oneOf'):
      if word not in schema:
        continue
      branches = self._get(
        place,
        schema,
        word,
        None,
        lambda found: isinstance(found, list) and found,
        'schemas',
      )
      parts = [
        self._of(self._sub(place, word, n, schema=one), above)
        for n, one in enumerate(branches)
      ]
      if word == 'allOf':
        for part in parts:
          found = self._product(place, found, part)
        continue
      parts = [self._product(place, found, part) for part in parts]
      found = [form for part in parts for form in part]
      self._check_count(f'{place}/{word}', found)
      if word == 'oneOf':
        self._keep_apart(f'{place}/oneOf', parts)
    return found

  def _keep_apart(self, place: str, parts: list[list[Form]]) -> None:
    for (n, one), (m, two) in itertools.permutations(enumerate(parts), 2):
      for a, b in itertools.product(one, two):
        # Only known keys are written.
        known = a.object
        if known.properties or known.required:
          known = dataclasses.replace(known, extra=None)
          a = dataclasses.replace(a, object=known)
        if (form := self._met(place, a, b)) is not None:
          self.apart.append((f'{place}/{n} and {m}', form))

  def _get(self, place, schema, word, otherwise, fits, expected: str):
    """What stands behind a keyword, if it may."""
    if word not in schema:
      return otherwise
    found = schema[word]
    if not fits(found):
      raise self.refuse(
        f'{place}/{word}', f'found {found!r:.60}, expected {expected}'
      )
    return found

  def _count(self, place, schema, word, otherwise=None, least: int = 0):
    expected = 'a count' if not least else f'a whole number of at least {least}'
    found = self._get(
      place,
      schema,
      word,
      otherwise,
      lambda one: _is_number(one) and one == one // 1 and one >= least,
      expected,
    )
    return None if found is None else int(found)

  def _bound(self, place, schema, word):
    return self._get(place, schema, word, None, _is_number, 'a number')

  def _own(self, place: str, schema: Mapping[str, Any]) -> Form | None:
    """What the keywords of a place itself say, but those that combine."""
    names = self._get(
      place,
      schema,
      'type',
      None,
      lambda found: (
        found
        and all(
          _is_text(one) and one in forms_lib.TYPES for one in _listed(found)
        )
      ),
      f'of {", ".join(forms_lib.TYPES)}',
    )
    types = forms_lib.EVERY
    if names is not None:
      kinds = (forms_lib.TYPES[one] for one in _listed(names))
      types = frozenset(itertools.chain(*kinds))
    most = self._limits.written // 4
    values = self._get(
      place,
      schema,
      'enum',
      None,
      lambda found: isinstance(found, list) and 0 < len(found) <= most,
      f'1 to {most} values',
    )
    form = Form(
      types,
      None if values is None else tuple(values),
      self._text(place, schema),
      self._number(place, schema),
      self._object(place, schema),
      self._array(place, schema),
    )
    if 'const' in schema:
      return forms_lib.met(form, Form(values=(schema['const'],)))
    return form

  def _text(self, place, schema) -> forms_lib.Text:
    pattern = self._get(place, schema, 'pattern', None, _is_text, 'text')
    known = (*scalars.FORMATS, *scalars.WIDTHS)
    name = self._get(
      place,
      schema,
      'format',
      None,
      lambda found: found in known,
      f'of {", ".join(known)}',
    )
    patterns = pattern, scalars.FORMATS.get(name)
    return forms_lib.Text(
      self._count(place, schema, 'minLength', 0),
      self._count(place, schema, 'maxLength'),
      tuple(one for one in patterns if one is not None),
    )

  def _number(self, place, schema) -> forms_lib.Number:
    low, high, under, over = (
      self._bound(place, schema, word)
      for word in ('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum')
    )
    found = forms_lib.met_numbers(
      forms_lib.Number(low, high), forms_lib.Number(under, over, True, True)
    )
    width = scalars.WIDTHS.get(schema.get('format'), (None, None))
    found = forms_lib.met_numbers(found, forms_lib.Number(*width))
    step = self._count(place, schema, 'multipleOf', least=1)
    steps = () if step is None else (step,)
    return dataclasses.replace(found, steps=steps)

  def _object(self, place, schema) -> forms_lib.Object:
    properties = self._get(
      place,
      schema,
      'properties',
      {},
      lambda found: isinstance(found, Mapping),
      'an object',
    )
    required = self._get(
      place,
      schema,
      'required',
      [],
      lambda found: isinstance(found, list) and all(map(_is_text, found)),
      'names',
    )
    more = schema.get('additionalProperties', True)
    names: Places = ()
    if 'propertyNames' in schema:
      one = schema['propertyNames']
      names = (self._sub(place, 'propertyNames', schema=one),)
    return forms_lib.Object(
      {
        name: (self._sub(place, 'properties', name, schema=one),)
        for name, one in properties.items()
      },
      tuple(dict.fromkeys(required)),
      self._rest(place, 'additionalProperties', more),
      names,
      self._count(place, schema, 'minProperties', 0),
      self._count(place, schema, 'maxProperties'),
    )

  def _rest(self, place, word: str, schema: Any) -> Places | None:
    """The node of all that is not named; None where there may be none."""
    if isinstance(schema, bool):
      return () if schema else None
    return (self._sub(place, word, schema=schema),)

  def _array(self, place, schema) -> forms_lib.Array:
    if schema.get('uniqueItems', False) is not False:
      raise self.refuse(
        f'{place}/uniqueItems', 'this keyword is not supported here'
      )
    first = self._get(
      place,
      schema,
      'prefixItems',
      [],
      lambda found: isinstance(found, list),
      'schemas',
    )
    return forms_lib.Array(
      tuple(
        (self._sub(place, 'prefixItems', n, schema=one),)
        for n, one in enumerate(first)
      ),
      self._rest(place, 'items', schema.get('items', True)),
      self._count(place, schema, 'minItems', 0),
      self._count(place, schema, 'maxItems'),
    )


def _is_text(value: Any) -> bool:
  return isinstance(value, str)


def _is_number(value: Any) -> bool:
  is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
  return is_number and abs(value) != float('inf') and value == value


def _listed(names: Any) -> list:
  return names if isinstance(names, list) else [names]
