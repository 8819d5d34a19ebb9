"""Why a request was refused, and the status that says so; what is no request at all, `http_limits.refusals` refuses."""

from __future__ import annotations

from http import HTTPStatus

from http_limits.refusals import RequestRefused


class RouteUnknown(RequestRefused):
    """Nothing is served at this path."""

    code = "route-unknown"
    status = HTTPStatus.NOT_FOUND


class MethodRefused(RequestRefused):
    """The path is served, but not by this method. `allowed`: those by which it is."""

    code = "method-refused"
    status = HTTPStatus.METHOD_NOT_ALLOWED

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not served here; use {allowed}")
        self.allowed = allowed


class ParameterRefused(RequestRefused):
    """A query parameter, or a field of the body, is missing, unknown or out of bounds."""

    code = "parameter-refused"


class ItemUnknown(RequestRefused):
    """The index has no such item."""

    code = "item-unknown"
    status = HTTPStatus.NOT_FOUND

    def __init__(self, item: str) -> None:
        super().__init__(f"this index has no item {item[:200]!r}; GET /v1/items lists those it has")


class NoModel(RequestRefused):
    """The build has no model: its vectors are somebody's own, so no picture can become one."""

    code = "no-model"
    status = HTTPStatus.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("this index has no model to embed a picture with; ask by item, or by vector (findNeighbors)")


class MediaUnsupported(RequestRefused):
    """The body has a content type that isn't served here."""

    code = "media-unsupported"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class ImageUnreadable(RequestRefused):
    """The body is no picture that can be read, or one that costs too much to decode."""

    code = "image-unreadable"


class PictureLost(RequestRefused):
    """The picture's process was ended, and not by its fault as far as one knows: another try may pass."""

    code = "picture-lost"
    status = HTTPStatus.SERVICE_UNAVAILABLE


class EmbeddingUnavailable(RequestRefused):
    """Pictures are embedded elsewhere, and whoever does can't be asked now."""

    code = "embedding-unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE


class NotReady(RequestRefused):
    """The server has not proved itself yet, or is leaving."""

    code = "not-ready"
    status = HTTPStatus.SERVICE_UNAVAILABLE
