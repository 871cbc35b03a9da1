"""Frozen dataclasses that cost next to nothing to define.

The standard decorator writes and compiles six methods a class, 0.3 ms each time a process starts. kvplan has
dozens of such classes, which was a sixth of the CPU time of an estimate. Here the standard decorator makes the
fields and slots, and the six methods are written once for all classes. `fields`, `replace`, `asdict`, `match`,
pickling and type checkers see an ordinary frozen dataclass.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses

    def dataclass(*, frozen, slots, kw_only=False):
        """The class as a frozen, slotted dataclass; other kinds are the standard decorator's business."""
        if not (frozen and slots):
            raise TypeError("kvplan.domain.records makes frozen, slotted classes only")

        def decorate(cls):
            for name, method in _METHODS.items():
                if name not in cls.__dict__:
                    setattr(cls, name, method)
            made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
            rows = tuple((f.name, f.default, f.default_factory) for f in dataclasses.fields(made))
            made._record_fields = rows
            made._record_compared = tuple(f.name for f in dataclasses.fields(made) if f.compare)
            return made

        return decorate

    def _init(self, *args, **kwargs):
        put = object.__setattr__
        rows = self._record_fields
        if args:
            kwargs = _with_positional(type(self), args, kwargs)
        for name, default, factory in rows:
            if name in kwargs:
                put(self, name, kwargs.pop(name))
            elif default is not dataclasses.MISSING:
                put(self, name, default)
            elif factory is not dataclasses.MISSING:
                put(self, name, factory())
            else:
                raise TypeError(f"{type(self).__name__}() needs `{name}`")
        if kwargs:
            raise TypeError(f"{type(self).__name__}() has no field `{next(iter(kwargs))}`")
        after = getattr(self, "__post_init__", None)
        if after is not None:
            after()

    def _with_positional(cls, args, kwargs):
        names = [f.name for f in dataclasses.fields(cls) if not f.kw_only]
        if len(args) > len(names):
            raise TypeError(f"{cls.__name__}() takes {len(names)} positional values, got {len(args)}")
        given = dict(zip(names, args, strict=False))
        twice = given.keys() & kwargs.keys()
        if twice:
            raise TypeError(f"{cls.__name__}() got `{min(twice)}` twice")
        return given | kwargs

    def _repr(self):
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _eq(self, other):
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._record_compared)

    def _hash(self):
        return hash((self.__class__, *[getattr(self, name) for name in self._record_compared]))

    def _setattr(self, name, value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _delattr(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _getstate(self):
        return [getattr(self, row[0]) for row in self._record_fields]

    def _setstate(self, state):
        for row, value in zip(self._record_fields, state, strict=True):
            object.__setattr__(self, row[0], value)

    class _Signature:
        """The constructor's signature, for `help()` and notebooks, made when somebody looks."""

        def __get__(self, instance, owner):
            from inspect import Parameter, Signature

            parameters = []
            for f in dataclasses.fields(owner):
                kind = Parameter.KEYWORD_ONLY if f.kw_only else Parameter.POSITIONAL_OR_KEYWORD
                has_default = f.default is not dataclasses.MISSING
                made = f.default_factory is not dataclasses.MISSING
                default = f.default if has_default else f.default_factory() if made else Parameter.empty
                parameters.append(Parameter(f.name, kind, default=default, annotation=f.type))
            return Signature(sorted(parameters, key=lambda p: p.kind))

    _METHODS = {
        "__init__": _init,
        "__repr__": _repr,
        "__eq__": _eq,
        "__hash__": _hash,
        "__setattr__": _setattr,
        "__delattr__": _delattr,
        "__getstate__": _getstate,
        "__setstate__": _setstate,
        "__signature__": _Signature(),
    }
