"""A connection to one model behind the REST protocol of TF Serving."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from keras_srt.core.errors import UserError
from keras_srt.serving.client.address import parse_address
from keras_srt.serving.client.predictions import RequestRefused

# A busy server is retried for 6 seconds, or up to 30 if it sends Retry-After.
_BUSY_RETRIES = 6
_MAX_WAIT = 5


class RestModel:
    """A model behind the REST protocol of TF Serving, over persistent connections.

    Busy servers (503) and lost connections are retried with increasing pauses. Threads may share
    an instance.

    Args:
        address: `http://host:8501`, or `http://host:8501/v1/models/NAME[/versions/N]`.
        name: Name of the model, for addresses without one; by default the only model there.
        timeout: Seconds per request.
        connections: Maximum number of persistent connections.

    Attributes:
        name: Name of the model.
        url: URL of the model, with the version if the address has one.
        version: Version of the model at the time of construction.
        signatures: Signatures by name, as in the metadata of the model.

    Raises:
        UserError: The address is invalid or unreachable, or has no such model.
    """

    def __init__(self, address: str, name: str | None, timeout: float, connections: int) -> None:
        self._session = _make_session(connections)
        self._timeout = timeout
        parsed = parse_address(address, name)
        self.name: str = parsed.name or self._only_model(parsed.root)
        self.url = f"{parsed.root}/v1/models/{quote(self.name, safe='')}"
        if parsed.version is not None:
            self.url += f"/versions/{parsed.version}"
        metadata = self._request("GET", f"{self.url}/metadata")
        try:
            self.version = str(metadata["model_spec"]["version"])
            self.signatures = dict(metadata["metadata"]["signature_def"]["signature_def"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.url}: doesn't respond as TF Serving does") from error

    def inputs(self, signature: str) -> dict[str, Any]:
        """Return the inputs of a signature by name; empty if there is no such signature.

        Raises:
            UserError: The metadata of the model are malformed.
        """
        try:
            return dict(self.signatures.get(signature, {}).get("inputs", {}))
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{self.url}: doesn't respond as TF Serving does") from error

    def predict(self, signature: str, rows: list[Any]) -> Any:
        """Send a predict request in row format.

        Args:
            signature: Name of the signature.
            rows: One JSON value per image.

        Returns:
            The JSON response.

        Raises:
            RequestRefused: The server refuses this request.
            UserError: The server is unreachable or busy, or the model is gone.
        """
        body = {"signature_name": signature, "instances": rows}
        return self._request("POST", f"{self.url}:predict", body)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _only_model(self, root: str) -> str:
        """Get the name of the only model of `keras-srt serve`; TF Serving has no such list."""
        try:
            models = self._request("GET", f"{root}/models")["models"]
        except (RequestRefused, KeyError, TypeError) as error:
            raise UserError(f"{root}: doesn't list its models; give --name NAME") from error
        if len(models) != 1:
            raise UserError(f"{root}: has the models {', '.join(models)}; give --name NAME")
        return models[0]

    def _request(self, method: str, url: str, body: Any = None) -> Any:
        import requests

        try:
            response = self._session.request(method, url, json=body, timeout=self._timeout)
        except (requests.RequestException, UnicodeError) as error:
            raise UserError(f"{url}: can't be reached ({_innermost(error)})") from error
        try:
            content = response.json()
        except ValueError:
            content = None
        if response.ok and content is not None:
            return content
        text = content.get("error") if isinstance(content, dict) else None
        problem = f"{url}: HTTP {response.status_code} ({str(text or response.reason)[:300]})"
        if response.status_code == 503:
            raise UserError(f"{problem}; busy or starting, try again later")
        if response.ok:
            raise UserError(f"{url}: the response is not JSON")
        if response.status_code == 404 and method == "POST":
            raise UserError(problem)
        raise RequestRefused(problem)


def _make_session(connections: int) -> Any:
    import requests
    import urllib3

    # Predictions have no side effects, so every method may be retried.
    retries = urllib3.Retry(
        total=None,
        connect=2,
        read=1,
        redirect=0,
        status=_BUSY_RETRIES,
        status_forcelist=[503],
        allowed_methods=None,
        backoff_factor=0.1,
        backoff_max=_MAX_WAIT,
        retry_after_max=_MAX_WAIT,
        raise_on_status=False,
    )
    adapter = requests.adapters.HTTPAdapter(
        max_retries=retries, pool_connections=1, pool_maxsize=connections
    )
    session = requests.Session()
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _innermost(error: BaseException) -> str:
    """Text of the first cause, such as "Connection refused"."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
