"""The plan of large objects: whether they can be copied, and copied back in a rollback. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confiture.catalog_model import Catalog, Identity
from confiture.plan import privileges
from confiture.plan.model import LargeObjectPlan, Options
from confiture.types import byte_size, counted, quoted


def refusals(source: Catalog, target: Catalog, chosen: str | None, options: Options) -> Iterator[str]:
    """Why the large objects of the source cannot be treated as chosen, each with the way out.

    :param chosen: ``copy``, ``leave``, or None.
    """
    number = source.identity.large_objects
    if chosen is None and number:
        yield (
            f"the source has {counted(number, 'large object')}: write `$large_objects: copy` into the mapping to copy"
            " them, or `$large_objects: leave` to leave them"
        )
    existing = target.identity.large_objects
    if chosen == "copy" and options.first and existing:
        yield (
            f"the target has {counted(existing, 'large object')} already, which may have the OIDs of the source's:"
            " SELECT lo_unlink(oid) FROM pg_largeobject_metadata"
        )


def missing(source: Catalog, target: Catalog, chosen: str | None) -> Iterator[str]:
    """The privileges that the roles lack to copy the large objects, each with its statement."""
    if chosen != "copy":
        return
    found = source.large_objects
    if found.unreadable:
        yield (
            f"large objects of the source that cannot be read: {found.unreadable:,}, such as {found.example}:"
            f" {_membership(found.unreadable_owners, source.identity)}"
        )
    for role in sorted({*found.owners, *found.grantees} - target.roles.keys()):
        what = "owns" if role in found.owners else "has privileges on"
        yield f"the target's server has no role {quoted(role)}, which {what} large objects: CREATE ROLE {quoted(role)}"
    writer = target.identity
    for role in found.owners:
        if not target.roles.get(role, writer.superuser):
            yield (
                f"{quoted(writer.role)} may not make {quoted(role)} the owner of large objects"
                f" of the target: {_membership([role], writer)}"
            )


def _membership(owners: Sequence[str], role: Identity) -> str:
    """The statement after which a role has the privileges of the owners and may act as each of them."""
    statements = (privileges.membership(owner, role) for owner in owners)
    return "; ".join(f"{s}, SET TRUE" if s.endswith("WITH INHERIT TRUE") else s for s in statements)


def planned(source: Catalog, chosen: str | None) -> LargeObjectPlan | None:
    """How the large objects are copied; None where they are not."""
    if chosen != "copy":
        return None
    foreign = [r for r in source.large_objects.owners if not source.roles.get(r)]
    if not foreign:
        return LargeObjectPlan()
    role, owners = source.identity, ", ".join(map(quoted, foreign))
    return LargeObjectPlan(f"{quoted(role.role)} may not write those of {owners}: {_membership(foreign, role)}")


def notes(source: Catalog, chosen: str | None, *, capture: bool) -> Iterator[str]:
    """Notes about them for the reader of the plan."""
    number = source.identity.large_objects
    if chosen == "leave" and number:
        yield f"{counted(number, 'large object')} of the source are not copied"
    if chosen != "copy":
        return
    size = byte_size(source.large_objects.bytes)
    yield f"{counted(number, 'large object')} (up to {size}) are copied with owner, comment and privileges"
    if not capture:
        return
    yield (
        "every large object is read again under the cutover's lock, within --max-write-pause; cutover --dry-run"
        " measures that"
    )
    if not source.identity.superuser:
        yield (
            "the cutover's lock does not delay a transaction that changes large objects and no row, because"
            f" {quoted(source.identity.role)} is not a superuser on the source: stop such transactions before it"
        )
