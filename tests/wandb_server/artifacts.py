"""Artifacts of the stand-in: created, uploaded, committed under aliases, found by name, used and downloaded.

A name has versions v0, v1, …; an alias belongs to one version of a name at a time, and `latest` to the newest.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.wandb_server.names import project

Answer = dict[str, Any]


@dataclass
class Artifact:
    """A version of an artifact.

    Attributes:
        given: what the client created it with.
        files: the content of its files, by name.
        manifest: its files and their digests, as the client sent them.
        version: None until it is committed.
        aliases: names of this version.
    """

    given: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: bytes = b""
    version: int | None = None
    aliases: set[str] = field(default_factory=set)

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(json.loads(self.given.get("metadata") or "{}"))


class Artifacts:
    """The artifacts.

    Attributes:
        by_id: all of them, committed or not.
    """

    def __init__(self, url: str) -> None:
        self.by_id: dict[str, Artifact] = {}
        self._url = url

    def versions(self, name: str) -> list[Artifact]:
        """Returns the committed versions of a name, oldest first."""
        found = [one for one in self.by_id.values() if one.given["artifactCollectionName"] == name]
        return sorted((one for one in found if one.version is not None), key=lambda one: one.version or 0)

    def answer(self, name: str, variables: dict[str, Any]) -> Answer | None:
        """Returns the answer to a query about artifacts, None to any other."""
        match name:
            case "CreateArtifact":
                return {"createArtifact": {"artifact": self._create(variables["input"])}}
            case "CreateArtifactManifest":
                url = f"{self._url}/artifact-manifest/{variables['artifactID']}"
                file = {"id": "f", "uploadUrl": url, "uploadHeaders": []}
                return {"createArtifactManifest": {"artifactManifest": {"id": variables["artifactID"], "file": file}}}
            case "CreateArtifactFiles":
                nodes = [{"node": self._upload(one)} for one in variables["input"]["artifactFiles"]]
                return {"createArtifactFiles": {"files": {"edges": nodes}}}
            case "CommitArtifact":
                artifact = self._commit(variables["artifactID"])
                return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": artifact}}}
            case "UseArtifact":
                used = self.by_id[(variables.get("input") or variables)["artifactID"]]
                return {"useArtifact": {"artifact": {"id": self._id(used), "digest": used.given["digest"]}}}
            case "ArtifactType":
                found = self._find(variables["project"], variables["name"])
                kind = found and {"artifactType": {"name": self.by_id[found].given["artifactTypeName"]}}
                return {"project": {"artifact": kind}}
            case "ArtifactMembershipByName":
                found = self._find(variables["project"], variables["name"])
                return {"project": {"artifactCollectionMembership": found and self._membership(found)}}
            case "ArtifactByID":
                return {"artifact": self._fragment(variables["id"])}
            case "ArtifactManifest" | "FetchArtifactManifest":
                found = variables.get("id") or variables["artifact_id"]
                return {
                    "artifact": {"currentManifest": {"file": {"directUrl": f"{self._url}/artifact-manifest/{found}"}}}
                }
            case "ArtifactFileURLs":
                return {"artifact": {"files": self._urls(variables["id"])}}
            case "ArtifactFileURLsByManifestEntries":
                return {"artifact": {"filesByManifestEntries": self._urls(variables["id"])}}
            case "GetArtifactMembershipFileUrls":
                found = self._find(variables["project"], f"{variables['collection']}:{variables['alias']}")
                membership = {"files": self._urls(str(found))}
                collection = {"__typename": "ArtifactSequence", "artifactMembership": membership}
                return {"project": {"artifactCollection": collection}}
        return None

    def _create(self, given: dict[str, Any]) -> Answer:
        versions = self.versions(given["artifactCollectionName"])
        latest = {"artifactSequence": {"latestArtifact": {"id": self._id(versions[-1])} if versions else None}}
        for version in versions:
            if given.get("enableDigestDeduplication") and version.given["digest"] == given["digest"]:
                self._name(version, given)
                return {"id": self._id(version), "state": "COMMITTED", **latest}
        artifact_id = f"artifact{len(self.by_id)}"
        self.by_id[artifact_id] = Artifact(given)
        return {"id": artifact_id, "state": "PENDING", **latest}

    def _id(self, artifact: Artifact) -> str:
        return next(key for key, one in self.by_id.items() if one is artifact)

    def _upload(self, spec: dict[str, Any]) -> Answer:
        artifact_id, name = spec["artifactID"], spec["name"]
        sent = [data for one in self.by_id.values() for data in one.files.values()]
        known = next((data for data in sent if _md5(data) == spec["md5"]), None)
        if known is not None:
            self.by_id[artifact_id].files[name] = known
        url = None if known is not None else f"{self._url}/artifact/{artifact_id}/{quote(name)}"
        return {"storagePath": name, "uploadUrl": url, "uploadHeaders": [], "uploadMultipartUrls": None,
                "artifact": {"id": artifact_id}}  # fmt: skip

    def _commit(self, artifact_id: str) -> str:
        artifact = self.by_id[artifact_id]
        contents = json.loads(artifact.manifest)["contents"]
        for name, entry in contents.items():  # as the service does, which has seen each upload
            if "ref" not in entry:
                assert _md5(artifact.files[name]) == entry["digest"], f"{name} was not uploaded whole"
        artifact.version = len(self.versions(artifact.given["artifactCollectionName"]))
        self._name(artifact, artifact.given)
        return str(artifact.given["digest"])

    def _name(self, artifact: Artifact, given: dict[str, Any]) -> None:
        """Gives a version its aliases, which others lose."""
        aliases = {one["alias"] for one in given.get("aliases") or []}
        versions = self.versions(given["artifactCollectionName"])
        if artifact is versions[-1]:
            aliases.add("latest")
        for version in versions:
            version.aliases -= aliases
        artifact.aliases |= aliases

    def _find(self, in_project: str, name: str) -> str | None:
        """Returns the id of NAME:ALIAS or NAME:vNUMBER, None if there is none."""
        collection, _, alias = name.partition(":")
        for artifact in self.versions(collection):
            named = (alias or "latest") in {*artifact.aliases, f"v{artifact.version}"}
            if named and artifact.given["projectName"] == in_project:
                return self._id(artifact)
        return None

    def _collection(self, artifact: Artifact) -> Answer:
        kind = {"__typename": "ArtifactSequence", "name": artifact.given["artifactCollectionName"]}
        return {**kind, "project": project(artifact.given["projectName"])}

    def _aliases(self, artifact: Artifact) -> list[Answer]:
        of = {"artifactCollection": self._collection(artifact)}
        return [{"__typename": "ArtifactAlias", "id": one, "alias": one, **of} for one in sorted(artifact.aliases)]

    def _fragment(self, artifact_id: str) -> Answer:
        artifact = self.by_id[artifact_id]
        return {
            "__typename": "Artifact", "id": artifact_id, "artifactSequence": self._collection(artifact),
            "versionIndex": artifact.version, "artifactType": {"name": artifact.given["artifactTypeName"]},
            "description": None, "metadata": artifact.given.get("metadata") or "{}", "ttlDurationSeconds": -1,
            "ttlIsInherited": False, "tags": [], "historyStep": None, "state": "COMMITTED",
            "size": sum(map(len, artifact.files.values())), "digest": artifact.given["digest"],
            "digestAlgorithm": "MANIFEST_MD5", "commitHash": "", "fileCount": len(artifact.files),
            "createdAt": "2026-01-01T00:00:00Z", "updatedAt": None, "aliases": self._aliases(artifact),
        }  # fmt: skip

    def _membership(self, artifact_id: str) -> Answer:
        artifact = self.by_id[artifact_id]
        return {
            "__typename": "ArtifactCollectionMembership", "id": "m", "versionIndex": artifact.version,
            "createdAt": "2026-01-01T00:00:00Z", "aliases": self._aliases(artifact),
            "artifactCollection": self._collection(artifact), "artifact": self._fragment(artifact_id),
        }  # fmt: skip

    def _urls(self, artifact_id: str) -> Answer:
        files = {name: f"{self._url}/artifact/{artifact_id}/{quote(name)}" for name in self.by_id[artifact_id].files}
        nodes = [{"node": {"__typename": "File", "name": name, "directUrl": url}} for name, url in files.items()]
        return {"pageInfo": {"__typename": "PageInfo", "hasNextPage": False, "endCursor": None}, "edges": nodes}


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
