"""Annotations of parameters: limits, choices, defaults and what widgets need to know."""


class Validator:
    """Refuses values: `accepts` says which it takes, `wanted` says so in words."""

    error = ValueError

    def validate(self, value):
        if not self.accepts(value):
            raise self.error(f"Value must be {self.wanted}, value is {value!r}")


class WithinRange(Validator):
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum, self.wanted = minimum, maximum, f"within range {minimum} to {maximum}"

    def accepts(self, value):
        return self.minimum <= value <= self.maximum


class Minimum(WithinRange):
    def __init__(self, minimum):
        super().__init__(minimum, float("inf"))


class Maximum(WithinRange):
    def __init__(self, maximum):
        super().__init__(float("-inf"), maximum)


class Choice(Validator):
    def __init__(self, choices):
        self.choices, self.accepts, self.wanted = choices, choices.__contains__, f"one of {choices}"


class Exclude(Validator):
    def __init__(self, excludedValues):
        self.accepts, self.wanted = lambda value: value not in excludedValues, f"none of {excludedValues}"


class NotNone(Exclude):
    def __init__(self):
        super().__init__([None])


class IsInstance(Validator):
    error = TypeError

    def __init__(self, classtypes):
        self.accepts, self.wanted = lambda value: isinstance(value, classtypes), f"an instance of {classtypes}"


class Default:
    def __init__(self, value=None, *, generator=None):
        self.value = generator or (lambda: value)


class Decimals:
    def __init__(self, value):
        self.value = value


class SingleStep(Decimals):
    pass


class Label(Decimals):
    pass


class RangeBounds:
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum


class FloatRange:
    """A pair minimum <= maximum; made a parameter pack where it is used."""

    minimum: float = 0.0
    maximum: float = 0.0
