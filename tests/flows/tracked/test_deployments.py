"""What cannot be deployed is refused before a server is asked."""

import pytest

from vfs_ops.errors import InputError, NotFoundError, VfsError

WORKSPACE = {"workspace": "file:///tmp/x"}
INGEST = {**WORKSPACE, "name": "photos", "source": "/photos"}


@pytest.fixture
def deployments():
    """Import what imports Prefect."""
    from flows.tracked import deployments

    return deployments


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"flow": "frobnicate"}, NotFoundError, "there is no flow 'frobnicate'"),
        (
            {"flow": "ingest_dataset", "parameters": {"colour": "red"}},
            InputError,
            "no parameter 'colour'; it has workspace, name, source",
        ),
        (
            {"cron": "* * * * *", "parameters": WORKSPACE},
            InputError,
            "cannot be scheduled so: name",
        ),
        ({"cron": "every day", "parameters": INGEST}, InputError, "every day"),
        ({"cron": "* * * * *", "timezone": "Moon", "parameters": INGEST}, InputError, "Moon"),
        ({"cron": "* * * * *", "parameters": {**INGEST, "tars": 7}}, InputError, "tars"),
        ({"parameters": {"tars": 7}}, InputError, "parameter tars of ingest_dataset is '7'"),
        ({"parameters": {"name": 2024}}, InputError, "parameter name .* valid string"),
        (
            {"flow": "build_caches", "parameters": {"extractors": [{"layers": ["a"]}]}},
            InputError,
            "extractors .* 0.model",
        ),
    ],
)
def test_what_cannot_be_deployed_is_told_in_a_line(deployments, given, error, says):
    with pytest.raises(VfsError, match=says) as caught:
        deployments.deploy([deployments.Deployment(**{"flow": "ingest_dataset", **given})], "pool")
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_a_schedule_has_a_time_zone(deployments):
    nightly = deployments.Deployment("ingest_dataset", "n", INGEST, "0 3 * * *", "Europe/Berlin")
    made = deployments._made(nightly, "pool")
    [schedule] = made.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 3 * * *", "Europe/Berlin")
    assert made.entrypoint == "flows.tracked.definitions.ingest_dataset"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("dataset=photos", "photos"),
        ("dataset=2024", "2024"),
        ("dataset=1e5", "1e5"),
        ('dataset="quoted"', "quoted"),
        ("dataset=a=b", "a=b"),
        ("dataset=", ""),
        ("source=true", "true"),
        ("workers=3", 3),
        ("workers=many", "many"),  # which is refused where it is used
        ("tars=true", True),
        ('extractors=[{"model": "m", "layers": ["1"]}]', [{"model": "m", "layers": ["1"]}]),
    ],
)
def test_parameters_are_read_as_what_they_shall_be(deployments, text, value):
    assert deployments.read_parameter("build_caches", text) == (text.partition("=")[0], value)


@pytest.mark.parametrize("text", ["a", "=3", "", "colour=3"])
def test_what_is_no_parameter_is_refused(deployments, text):
    with pytest.raises(InputError, match=r"PARAMETER=VALUE|has no parameter 'colour'"):
        deployments.read_parameter("build_caches", text)
