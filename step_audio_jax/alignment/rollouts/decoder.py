"""Where a policy lies while it answers, and what decodes it there.

Training splits parameters so that their state fits (`fsdp`): each device has a
part, and asks the others for the rest. A decoder reads all of them for every
id, and that would be gathered as often. So answers may be drawn under rules of
their own, over the same mesh, and a program lays the policy out for them once a
step: its matrices in the dtype of their products, adapters merged, each block
apart (`models.language.decoding_layout`), split as the rules say.

What would come out as it went in is not copied: it is the trainer's own array.

Axes: B rows, S places of a cache.
"""

import functools
from typing import Any, Callable, Mapping

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax.generation import decode
from step_audio_jax.generation import restore
from step_audio_jax.parallel import mesh as mesh_lib

Key = jax.tree_util.SequenceKey


class MeshDecoder:
  """The decoder on a mesh, its programs compiled for rules of their own.

  Attributes:
    model: The policy's network, as it decodes.
    rules: Logical axis → mesh axis.
    layout: The trainer's variables → what of them has to be laid out anew.
  """

  def __init__(
    self,
    model: nn.Module,
    policy: Callable[[Any], Mapping[str, Any]],
    variables: Any,
    mesh: jax.sharding.Mesh,
    rules: mesh_lib.Rules,
    rows: Any,
  ):
    """Nothing is compiled yet.

    Args:
      model: The policy's network.
      policy: The trainer's variables → those of the network; traceable.
      variables: The trainer's: shapes, dtypes and shardings.
      mesh: Of the trainer.
      rules: To draw under.
      rows: Sharding of the rows of a rollout, as the trainer reads them.
    """
    model = restore.unroll_layers(model)
    self.model, self.rules = model, rules
    self._mesh, self._rows = mesh, rows

    def laid(variables):
      return model.for_decoding(policy(variables))

    with nn.logical_axis_rules(rules):
      closed, self.shapes = jax.make_jaxpr(laid, return_shape=True)(variables)
    self.shardings = _shardings(model, self.shapes, mesh, rules)
    given = {id(var): n for n, var in enumerate(closed.jaxpr.invars)}
    held = [leaf.sharding for leaf in jax.tree.leaves(variables)]
    wanted = jax.tree.leaves(self.shardings)
    # Of each array that is laid out: which of the trainer's it is, if any.
    self._own = [
      n
      if (n := given.get(id(var))) is not None
      and held[n].is_equivalent_to(sharding, var.aval.ndim)
      else None
      for var, sharding in zip(closed.jaxpr.outvars, wanted, strict=True)
    ]
    made = [n for n, own in enumerate(self._own) if own is None]

    def others(variables):
      leaves = jax.tree.leaves(laid(variables))
      return [leaves[n] for n in made]

    self.layout = jax.jit(others, out_shardings=[wanted[n] for n in made])

  def laid_out(self, variables: Any) -> Any:
    """The network's variables as they are decoded with, of the trainer's."""
    leaves, made = jax.tree.leaves(variables), iter(self.layout(variables))
    return jax.tree.unflatten(
      jax.tree.structure(self.shardings),
      [next(made) if own is None else leaves[own] for own in self._own],
    )

  def abstract(self) -> Any:
    """What is laid out: shapes, dtypes and shardings."""
    return _placed(self.shapes, self.shardings)

  def programs(self, rows: int, places: int):
    """(`decode.prefill`, `decode.decode`) for caches of that size.

    A cache is split by rows and by groups.
    """
    cache = self.cache(rows, places)
    return _programs(
      self._mesh, self.rules, *_hashable(jax.tree.map(_sharding, cache))
    )

  def cache(self, rows: int, places: int) -> Any:
    """A cache: shapes, dtypes and shardings."""
    with jax.set_mesh(self._mesh):
      shapes = jax.eval_shape(lambda: self.model.init_cache(rows, places))

    def placed(path, leaf):
      names = {'layers': ('batch', 'kv_heads'), 'rotary': (), 'index': ()}
      return _placed(
        leaf,
        mesh_lib.sharding_for(
          leaf.shape,
          names.get(path[0].key, ('batch',)),
          self._mesh,
          self.rules,
        ),
      )

    return jax.tree_util.tree_map_with_path(placed, shapes)

  def compiled(self, assemble: Callable[..., Any]) -> Callable[..., Any]:
    """A function of rows, compiled: they lie where the trainer reads them."""
    return _compiled(assemble, self._rows)


@functools.cache
def _compiled(function, shardings):
  return jax.jit(function, out_shardings=shardings)


@functools.cache
def _programs(mesh, rules, structure, shardings):
  """(prefill, decode), of their own for each mesh and rules.

  Compiled functions remember what they traced by shapes alone, so functions of
  other rules must be others.
  """
  del mesh, rules
  cache = jax.tree.unflatten(structure, shardings)
  prefill, drawn = (
    functools.partial(one.__wrapped__)
    for one in (decode.prefill, decode.decode)
  )
  return (
    jax.jit(
      prefill,
      static_argnames=('model', 'cache_length', 'group'),
      out_shardings=cache,
    ),
    jax.jit(
      drawn,
      static_argnames=('model', 'sampler', 'longest', 'replay'),
      donate_argnames=('cache',),
      out_shardings=(None,) * 5 + (cache,),
    ),
  )


def _hashable(tree):
  leaves, structure = jax.tree.flatten(tree)
  return structure, tuple(leaves)


def _sharding(leaf):
  return leaf.sharding


def _placed(shapes, shardings):
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    shapes,
    shardings,
  )


def _shardings(model, laid, mesh, rules):
  """Where the arrays of a network lie that is laid out for decoding."""
  tokens = jnp.zeros((1, 8), jnp.int32)
  boxed = jax.eval_shape(model.init, jax.random.key(0), tokens)
  names = {
    tuple(key.key for key in path): leaf.names
    for path, leaf in jax.tree_util.tree_flatten_with_path(
      boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
    )[0]
    if isinstance(leaf, nn.LogicallyPartitioned)
  }

  def one(path, leaf):
    found = names.get(
      tuple(key.key for key in path if not isinstance(key, Key)), ()
    )
    if any(isinstance(key, Key) for key in path):
      found = found[1:]  # of one block: no axis of layers
    return mesh_lib.sharding_for(leaf.shape, found, mesh, rules)

  return jax.tree_util.tree_map_with_path(one, laid)
