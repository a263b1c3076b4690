"""Sentences that the service itself says about tools, where the truth must not depend on a model.

By language, as a caller's tag begins; English where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping

_CANNOT_TELL = {
    "en": "I can't tell whether that went through. I won't try again, so that it isn't done twice. "
    "Please have it checked before you ask for it once more.",
    "de": "Ich kann nicht sagen, ob das geklappt hat. Ich versuche es nicht noch einmal, damit es nicht doppelt "
    "geschieht. Bitte lassen Sie es prüfen, bevor Sie es noch einmal verlangen.",
    "es": "No puedo decirle si se ha hecho. No lo intentaré de nuevo, para que no se haga dos veces. "
    "Por favor, compruébelo antes de volver a pedirlo.",
    "fr": "Je ne peux pas dire si cela a été fait. Je ne réessaie pas, pour que ce ne soit pas fait deux fois. "
    "Faites-le vérifier avant de le redemander.",
}
_CANNOT_CHANGE_NOW = {
    "en": "I can't change anything at the moment, so I haven't. Please try again a little later.",
    "de": "Ich kann im Moment nichts ändern und habe es auch nicht getan. Bitte versuchen Sie es etwas später.",
    "es": "Ahora mismo no puedo cambiar nada, y no lo he hecho. Por favor, inténtelo un poco más tarde.",
    "fr": "Je ne peux rien modifier pour le moment, et je ne l'ai pas fait. Réessayez un peu plus tard.",
}
_WAITING_FOR_APPROVAL = {
    "en": "A colleague has to approve that first. I'll tell you as soon as they have decided.",
    "de": "Das muss erst eine Kollegin oder ein Kollege freigeben. Ich sage Ihnen Bescheid, sobald entschieden ist.",
    "es": "Un compañero tiene que aprobarlo primero. Se lo diré en cuanto lo haya decidido.",
    "fr": "Un collègue doit d'abord l'approuver. Je vous le dirai dès que ce sera décidé.",
}
_TRANSFERRING = {
    "en": "I'm putting you through to a colleague. I'll tell them what we have talked about.",
    "de": "Ich verbinde Sie mit einer Kollegin oder einem Kollegen und sage, worum es geht.",
    "es": "Le paso con un compañero. Le contaré de qué hemos hablado.",
    "fr": "Je vous passe un collègue. Je lui dirai de quoi nous avons parlé.",
}


def cannot_tell(language: str) -> str:
    """It may have run, and nobody knows."""
    return _in(_CANNOT_TELL, language)


def cannot_change_now(language: str) -> str:
    """It was not tried."""
    return _in(_CANNOT_CHANGE_NOW, language)


def waiting_for_approval(language: str) -> str:
    return _in(_WAITING_FOR_APPROVAL, language)


def transferring(language: str) -> str:
    return _in(_TRANSFERRING, language)


def _in(sentences: Mapping[str, str], language: str) -> str:
    return sentences.get(language.partition("-")[0].lower(), sentences["en"])
