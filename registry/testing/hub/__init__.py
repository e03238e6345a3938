"""A local Hugging Face Hub on loopback, spoken to by the real `huggingface_hub` client.

    with HubServer(tmp_path) as hub:
        api = HfApi(endpoint=hub.url, token=LOCAL_TOKEN)
        api.create_repo("team/adapter")

It keeps model repositories (no datasets, no spaces): commits, branches, tags, pull requests, LFS and xet uploads,
downloads with ranges, and the errors the Hub answers. Everything lives under one folder and survives a restart;
one server at a time may use that folder. Set the endpoint on `HfApi`, or in `HF_ENDPOINT` before the client is
imported: `huggingface_hub.constants.ENDPOINT` is read into other constants at import, so patching it later sends
downloads to the real Hub.
"""

try:
    from registry.testing.hub._access import LOCAL_TOKEN, User
    from registry.testing.hub._faults import Request
    from registry.testing.hub._server import HubServer
    from registry.testing.hub._store import Commit
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"starlette", "uvicorn", "yaml"}:
        raise
    message = f"the local Hub needs {error.name}: pip install 'adapter-registry[testing]'"
    raise ImportError(message) from error

__all__ = ["LOCAL_TOKEN", "Commit", "HubServer", "Request", "User"]
