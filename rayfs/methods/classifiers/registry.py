"""All classifiers of frozen features. Adding one is a function and an entry here. No torch here."""

from collections.abc import Sequence

from rayfs.errors import InputError
from rayfs.methods.classifiers.definition import ClassifierDefinition, ClassifierSettings

CLASSIFIERS = (
    ClassifierDefinition(
        name="logistic-regression", aliases=("lr",), key="lr", summary="the baseline of the gains",
        predict="rayfs.methods.classifiers.predict:logistic_regression", penalty="c",
    ),
    ClassifierDefinition(
        name="nearest-neighbour", key="nearest-neighbour", summary="Euclidean",
        predict="rayfs.methods.classifiers.predict:nearest_neighbour",
    ),
    ClassifierDefinition(
        name="prototype", key="prototype", summary="nearest class mean, Euclidean",
        predict="rayfs.methods.classifiers.predict:prototype",
    ),
    ClassifierDefinition(
        name="cosine", key="cosine", summary="to the class means",
        predict="rayfs.methods.classifiers.predict:cosine",
    ),
    ClassifierDefinition(
        name="svm", key="svm", summary="linear, scikit-learn",
        predict="rayfs.methods.classifiers.predict:svm", penalty="svm_c",
    ),
)  # fmt: skip
"""What --classifiers takes."""


def names() -> tuple[str, ...]:
    """Return the names of all classifiers, without aliases."""
    return tuple(classifier.name for classifier in CLASSIFIERS)


def chosen(asked: Sequence[str]) -> tuple[str, ...]:
    """Return the proper names of the classifiers that are asked for.

    Raises:
        InputError: there is no such classifier, none is asked for, or one twice.
    """
    proper = {alias: c.name for c in CLASSIFIERS for alias in (c.name, *c.aliases)}
    found = tuple(proper[name] for name in asked if name in proper)
    if not asked or len(found) < len(asked) or len(set(found)) < len(found):
        known = ", ".join(names())
        raise InputError(f"--classifiers is '{' '.join(asked)}'; expected some of {known}, each once")
    return found


def classifier_of(settings: ClassifierSettings) -> ClassifierDefinition:
    """Return the classifier whose settings these are.

    Raises:
        InputError: there is none of that key.
    """
    for classifier in CLASSIFIERS:
        if classifier.key == settings.classifier:
            return classifier
    keys = ", ".join(classifier.key for classifier in CLASSIFIERS)
    raise InputError(f"classifier is '{settings.classifier}'; expected one of {keys}")


def classifier_settings(
    asked: Sequence[str], *, c: float, svm_c: float, normalize: bool, support_views: int, view_seed: int
) -> dict[str, ClassifierSettings]:
    """Return proper name -> settings of the classifiers asked for, all on the same features."""
    penalties = {"c": c, "svm_c": svm_c, None: None}
    wanted = chosen(asked)
    return {
        classifier.name: classifier.settings(
            classifier=classifier.key, c=penalties[classifier.penalty], normalize=normalize,
            support_views=support_views, view_seed=view_seed if support_views else 0,
        )
        for name in wanted
        for classifier in CLASSIFIERS
        if classifier.name == name
    }  # fmt: skip
