"""JSON Schema (Draft 2020-12) → alternatives, each without `allOf` and `$ref`.

A place of a schema is named by its JSON pointer, and a node by the set of
places that all hold for a value: so `$ref`, `allOf` and what stands beside
`anyOf` are met in one way, and recursion ends at nodes that are known. What is
not supported is refused by its pointer, never left out.
"""

import dataclasses
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
  '$schema $id $comment $defs definitions'.split()
)
_KNOWN = _NOTES | frozenset(
  'type enum const allOf anyOf oneOf $ref properties required '
  'additionalProperties propertyNames minProperties maxProperties items '
  'prefixItems minItems maxItems uniqueItems minLength maxLength pattern '
  'format minimum maximum exclusiveMinimum exclusiveMaximum multipleOf'.split()
)
_DEEPEST, _MERGES, _PAIRS = 48, 20_000, 4000


def _is_of(name: Any, names: Iterable[str]) -> bool:
  return isinstance(name, str) and name in names


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
    shown = place if len(place) <= 200 else place[:200] + '…'
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
    for a in one:
      for b in two:
        self._merges -= 1
        if self._merges < 0:
          raise self.refuse(place, 'its alternatives are too many to combine')
        if (form := forms_lib.met(a, b)) is not None:
          out.append(form)
    if len(out) > self._limits.alternatives:
      raise self.refuse(
        place,
        f'found {len(out)} alternatives, expected at most '
        f'{self._limits.alternatives}',
      )
    return out

  def _sub(self, place: str, *path: str | int, schema: Any) -> str:
    """Names what is inside a place."""
    for part in path:
      part = str(part).replace('~', '~0').replace('/', '~1')
      place = f'{place}/{part}'
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
      if word not in _KNOWN and not str(word).startswith('x-'):
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
      branches = schema[word]
      if not isinstance(branches, list) or not branches:
        raise self.refuse(
          f'{place}/{word}', f'found {branches!r:.60}, expected schemas'
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
      if word == 'oneOf':
        self._keep_apart(f'{place}/oneOf', parts)
      found = [form for part in parts for form in part]
      if len(found) > self._limits.alternatives:
        raise self.refuse(
          f'{place}/{word}',
          f'found {len(found)} alternatives, expected at most '
          f'{self._limits.alternatives}',
        )
    return found

  def _keep_apart(self, place: str, parts: list[list[Form]]) -> None:
    for n, one in enumerate(parts):
      for m, two in enumerate(parts):
        if n == m:
          continue
        for a in one:
          # Only known keys are written.
          known = a.object
          if known.properties or known.required:
            a = dataclasses.replace(
              a, object=dataclasses.replace(known, extra=None)
            )
          for b in two:
            if (form := forms_lib.met(a, b)) is not None:
              self.apart.append((f'{place}/{n} and {m}', form))
    if len(self.apart) > _PAIRS:
      raise self.refuse(place, 'its branches are too many to compare')

  def _count(self, place, schema, word, otherwise):
    if word not in schema:
      return otherwise
    found = schema[word]
    if isinstance(found, float) and found.is_integer():
      found = int(found)
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
      raise self.refuse(
        f'{place}/{word}', f'found {found!r:.60}, expected a count'
      )
    return found

  def _bound(self, place, schema, word):
    found = schema.get(word)
    if found is None and word not in schema:
      return None
    if (
      isinstance(found, bool)
      or not isinstance(found, (int, float))
      or found != found
      or found in (float('inf'), float('-inf'))
    ):
      raise self.refuse(
        f'{place}/{word}', f'found {found!r:.60}, expected a number'
      )
    return found

  def _own(self, place: str, schema: Mapping[str, Any]) -> Form | None:
    """What the keywords of a place itself say, but those that combine."""
    types = forms_lib.EVERY
    if 'type' in schema:
      names = schema['type']
      names = [names] if isinstance(names, str) else names
      if (
        not isinstance(names, list)
        or not names
        or not all(
          isinstance(one, str) and one in forms_lib.TYPES for one in names
        )
      ):
        raise self.refuse(
          f'{place}/type',
          f'found {schema["type"]!r:.60}, expected of '
          f'{", ".join(forms_lib.TYPES)}',
        )
      types = frozenset(kind for one in names for kind in forms_lib.TYPES[one])
    values = None
    if 'enum' in schema:
      values = schema['enum']
      if not isinstance(values, list) or not values:
        raise self.refuse(
          f'{place}/enum', f'found {values!r:.60}, expected values'
        )
      if len(values) > self._limits.written // 4:
        raise self.refuse(
          f'{place}/enum',
          f'found {len(values)} values, expected at most '
          f'{self._limits.written // 4}',
        )
      values = tuple(values)
    form = Form(
      types,
      values,
      self._text(place, schema),
      self._number(place, schema),
      self._object(place, schema),
      self._array(place, schema),
    )
    if 'const' in schema:
      return forms_lib.met(form, Form(values=(schema['const'],)))
    return form

  def _text(self, place, schema) -> forms_lib.Text:
    patterns = []
    if 'pattern' in schema:
      if not isinstance(schema['pattern'], str):
        raise self.refuse(
          f'{place}/pattern', f'found {schema["pattern"]!r:.60}, expected text'
        )
      patterns.append(schema['pattern'])
    name = schema.get('format')
    if 'format' in schema and not _is_of(name, scalars.WIDTHS):
      if not _is_of(name, scalars.FORMATS):
        raise self.refuse(
          f'{place}/format',
          f'found {name!r:.60}, expected of '
          f'{", ".join((*scalars.FORMATS, *scalars.WIDTHS))}',
        )
      patterns.append(scalars.FORMATS[name])
    return forms_lib.Text(
      self._count(place, schema, 'minLength', 0),
      self._count(place, schema, 'maxLength', None),
      tuple(patterns),
    )

  def _number(self, place, schema) -> forms_lib.Number:
    low, high, under, over = (
      self._bound(place, schema, word)
      for word in ('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum')
    )
    found = forms_lib.met_numbers(
      forms_lib.Number(low, high), forms_lib.Number(under, over, True, True)
    )
    width = schema.get('format')
    if _is_of(width, scalars.WIDTHS):
      found = forms_lib.met_numbers(
        found, forms_lib.Number(*scalars.WIDTHS[width])
      )
    step = schema.get('multipleOf')
    if 'multipleOf' in schema:
      if isinstance(step, float) and step.is_integer():
        step = int(step)
      if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise self.refuse(
          f'{place}/multipleOf',
          f'found {step!r:.60}, expected a whole number of at least 1',
        )
      found = dataclasses.replace(found, steps=(step,))
    return found

  def _object(self, place, schema) -> forms_lib.Object:
    properties = schema.get('properties', {})
    if not isinstance(properties, Mapping):
      raise self.refuse(
        f'{place}/properties', f'found {properties!r:.60}, expected an object'
      )
    required = schema.get('required', [])
    if not isinstance(required, list) or not all(
      isinstance(one, str) for one in required
    ):
      raise self.refuse(
        f'{place}/required', f'found {required!r:.60}, expected names'
      )
    nodes = {
      name: (self._sub(place, 'properties', name, schema=one),)
      for name, one in properties.items()
    }
    extra: Places | None = ()
    more = schema.get('additionalProperties', True)
    if more is False:
      extra = None
    elif more is not True:
      extra = (self._sub(place, 'additionalProperties', schema=more),)
    names: Places = ()
    if 'propertyNames' in schema:
      names = (
        self._sub(place, 'propertyNames', schema=schema['propertyNames']),
      )
    return forms_lib.Object(
      nodes,
      tuple(dict.fromkeys(required)),
      extra,
      names,
      self._count(place, schema, 'minProperties', 0),
      self._count(place, schema, 'maxProperties', None),
    )

  def _array(self, place, schema) -> forms_lib.Array:
    if schema.get('uniqueItems', False) is not False:
      raise self.refuse(
        f'{place}/uniqueItems', 'this keyword is not supported here'
      )
    first = schema.get('prefixItems', [])
    if not isinstance(first, list):
      raise self.refuse(
        f'{place}/prefixItems', f'found {first!r:.60}, expected schemas'
      )
    more = schema.get('items', True)
    rest: Places | None = () if more is True else None
    if more is not True and more is not False:
      rest = (self._sub(place, 'items', schema=more),)
    return forms_lib.Array(
      tuple(
        (self._sub(place, 'prefixItems', n, schema=one),)
        for n, one in enumerate(first)
      ),
      rest,
      self._count(place, schema, 'minItems', 0),
      self._count(place, schema, 'maxItems', None),
    )
