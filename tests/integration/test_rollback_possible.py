"""Confiture reports before the cutover whether a rollback will be possible, and the report holds after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from projects import MAPPING, Project, error
from servers import Databases

OLD = """
CREATE TABLE tb_user (id bigint PRIMARY KEY, login_name text NOT NULL, settings_json text, name text);
CREATE TABLE tb_post (id serial PRIMARY KEY, user_id bigint REFERENCES tb_user, body text);
INSERT INTO tb_user SELECT n, 'login' || n, '{"n": 1}', 'name' || n FROM generate_series(1, 30) n;
INSERT INTO tb_post (user_id, body) SELECT n % 30 + 1, 'body' || n FROM generate_series(1, 50) n;
ANALYZE;
"""
POSSIBLE = "Rollback after the cutover: possible."
IMPOSSIBLE = "Rollback after the cutover: not possible"
#: Mappings that cannot be inverted, and why.
ONE_WAY = {
    "a transform": (MAPPING, "column metadata is transformed without `reverse:`"),
    "a foreign key of an omitted table": (MAPPING + '    reverse: "metadata::text"\n$omit: [tb_post]\n', "tb_post"),
}


@pytest.fixture
def project(databases: Databases, tmp_path: Path) -> Project:
    source = databases.cloned(OLD)
    target = f"{source.name}_new"
    databases.adopt(target)
    return Project(tmp_path, source, target, capture=True)


def verified(project: Project, mapping: str) -> str:
    """Verify a run with this mapping. Returns the output of verify."""
    project.write("column_mapping.yaml", mapping)
    project.setup()
    project.step("migrate")
    return str(project.step("verify").stdout)


def test_a_rollback_reported_as_possible_is_possible(project: Project) -> None:
    report = verified(project, MAPPING + '    reverse: "metadata::text"\n')
    assert POSSIBLE in report
    assert POSSIBLE in project.step("cutover", "--dry-run").stdout
    project.step("cutover")
    project.new.sql("UPDATE tb_user SET name = 'new' WHERE id = 3")
    rehearsed = project.step("rollback", "--dry-run").stdout
    assert "a rollback would be possible now; nothing has switched" in rehearsed
    assert "open the source" in rehearsed
    assert project.state == "cutover"
    project.new.sql("UPDATE tb_user SET name = 'newer' WHERE id = 3")
    project.step("rollback")
    assert project.source.value("SELECT name FROM tb_user WHERE id = 3") == "newer"


@pytest.mark.parametrize("case", ["a transform", "a foreign key of an omitted table"])
def test_a_cutover_without_a_rollback_requires_confirmation(project: Project, case: str) -> None:
    mapping, why = ONE_WAY[case]
    if case == "a foreign key of an omitted table":
        (project.folder / "db/schema/10_tables/20_post.sql").unlink()
    report = verified(project, mapping)
    for text in (report, project.step("cutover", "--dry-run").stdout):
        assert IMPOSSIBLE in text
        assert why in text
    asked = error(project.step("cutover", check=2))
    assert "a cutover after which a rollback is not possible needs a confirmation" in asked
    assert why in asked
    assert "add --no-rollback" in asked
    assert project.state == "verified"
    project.step("cutover", "--no-rollback")
    refused = error(project.step("rollback", check=4))
    assert why in refused
    error(project.step("rollback", "--dry-run", check=4))


def test_a_run_without_capture_reports_that_no_rollback_is_possible(databases: Databases, tmp_path: Path) -> None:
    source = databases.cloned(OLD)
    databases.adopt(f"{source.name}_new")
    project = Project(tmp_path, source, f"{source.name}_new")
    assert IMPOSSIBLE in verified(project, MAPPING)
    assert "nothing to roll back" in error(project.step("rollback", "--dry-run", check=4))
