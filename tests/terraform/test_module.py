"""What the module makes is what the parts want, and nothing that can be live goes by age."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from typing import Any
from zipfile import ZipFile

import pytest

from cd_webhook.config import Config as WebhookConfig
from model_repository.bucket.events import SweepAsked
from model_repository.deployment import AuthKind
from model_repository.programs.function_config import Config as FunctionConfig
from model_repository.telemetry.spans import spans_wanted
from notify.config import Config as NotifyConfig
from on_commit.event import read_event
from operator_cli.arguments import parse_arguments
from operator_cli.webhook import Webhook
from tests.terraform.conftest import SMALLEST, Terraform
from tests.terraform.plan import Grant, grants, resources

Example = Callable[[str], dict[str, Any]]


def test_it_is_formatted(terraform: Terraform) -> None:
    assert terraform.said(".", "fmt", "-check", "-recursive", "-diff") == ""


@pytest.mark.parametrize("folder", [".", "examples/staging", "examples/production"])
def test_it_is_valid(folder: str, terraform: Terraform) -> None:
    terraform.said(folder, "init", "-backend=false", "-input=false")
    found = json.loads(terraform.run(folder, "validate", "-json").stdout)
    assert found["diagnostics"] == []


def test_eight_inputs_are_enough(smallest: dict[str, Any]) -> None:
    assert len(smallest["configuration"]["root_module"]["variables"]) <= 8


def rules_by_age(plan: dict[str, Any]) -> dict[str, int]:
    bucket = resources(plan, "google_storage_bucket")["google_storage_bucket.repository"]
    deletes = [rule for rule in bucket["lifecycle_rule"] if rule["action"][0]["type"] == "Delete"]
    rules = {
        prefix: rule["condition"][0]["age"] for rule in deletes for prefix in rule["condition"][0]["matches_prefix"]
    }
    assert len(rules) == len(deletes)  # a rule without a prefix is about everything
    return rules


def test_no_rule_of_the_bucket_deletes_what_can_be_live(smallest: dict[str, Any]) -> None:
    assert rules_by_age(smallest) == {"shards/": 7, "pictures/": 90, "features/": 180}


def test_where_prune_runs_no_rule_deletes_what_the_batch_counts_on(example: Example) -> None:
    assert rules_by_age(example("production")) == {"pictures/": 90}


def test_the_bucket_is_private_and_what_is_deleted_can_be_had_back(smallest: dict[str, Any]) -> None:
    bucket = resources(smallest, "google_storage_bucket")["google_storage_bucket.repository"]
    assert bucket["uniform_bucket_level_access"] is True
    assert bucket["public_access_prevention"] == "enforced"
    assert bucket["soft_delete_policy"][0]["retention_duration_seconds"] == 7 * 86_400


def test_a_customers_key_encrypts_all_that_takes_one(terraform: Terraform, smallest: dict[str, Any]) -> None:
    key = "projects/acme-keys/locations/europe-west4/keyRings/search/cryptoKeys/models"
    project = SMALLEST["project"] | {"key": key}
    everything = {"operators": {"members": [], "image": "operator:0.1.0"}, "notify": {}}
    plan = terraform.plan(".", SMALLEST | everything | {"project": project})
    for kind in ("google_pubsub_topic", "google_artifact_registry_repository", "google_cloudfunctions2_function"):
        made = resources(plan, kind)
        assert made
        assert {each["kms_key_name"] for each in made.values()} == {key}
    buckets = resources(plan, "google_storage_bucket").values()
    assert [each["encryption"][0]["default_kms_key_name"] for each in buckets] == [key] * 2
    (board,) = resources(plan, "google_cloud_run_v2_service").values()
    (prune,) = resources(plan, "google_cloud_run_v2_job").values()
    assert board["template"][0]["encryption_key"] == prune["template"][0]["template"][0]["encryption_key"] == key
    assert all(each["encryption"] == [] for each in resources(smallest, "google_storage_bucket").values())


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("projects/p/locations/us/keyRings/r/cryptoKeys/k", "a key encrypts what is in its own location alone"),
        ("projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", "without a version"),
    ],
)
def test_a_key_that_cannot_encrypt_the_bucket_is_refused(terraform: Terraform, key: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        terraform.plan(".", SMALLEST | {"project": SMALLEST["project"] | {"key": key}})


def test_commits_and_filters_wake_the_function_and_nothing_else_does(smallest: dict[str, Any]) -> None:
    notifications = resources(smallest, "google_storage_notification").values()
    assert sorted(each["object_name_prefix"] for each in notifications) == ["commits/", "filters/"]
    assert {each["payload_format"] for each in notifications} == {"JSON_API_V1"}  # the framework refuses an empty one
    assert {tuple(each["event_types"]) for each in notifications} == {("OBJECT_FINALIZE",)}


def test_what_no_function_can_handle_is_kept_for_a_week(smallest: dict[str, Any]) -> None:
    subscriptions = resources(smallest, "google_pubsub_subscription")
    pushes = [each for each in subscriptions.values() if each["push_config"]]
    kept = [each for each in subscriptions.values() if not each["push_config"]]
    assert [each["dead_letter_policy"][0]["max_delivery_attempts"] for each in pushes] == [100]
    assert sorted(each["name"] for each in kept) == ["indexpush-on-commit-dead", "indexpush-reports"]
    assert {each["message_retention_duration"] for each in kept} == {"604800s"}
    assert {each["expiration_policy"][0]["ttl"] for each in subscriptions.values()} == {""}


def test_the_sweeps_message_is_one_that_the_function_understands(smallest: dict[str, Any]) -> None:
    (job,) = resources(smallest, "google_cloud_scheduler_job").values()
    message = {"attributes": job["pubsub_target"][0]["attributes"], "data": job["pubsub_target"][0]["data"]}
    pushed = {"type": "google.cloud.pubsub.topic.v1.messagePublished"}
    assert isinstance(read_event(pushed, {"message": message, "subscription": "s"}, "acme-models"), SweepAsked)


def test_function_and_webhook_take_the_variables_that_they_are_given(terraform: Terraform) -> None:
    url = "https://cd.example/webhooks/webhook/indexpush"
    environments = {"production-eu": {"webhook_url": url, "freshness_hours": 6.3333}}
    plan = terraform.plan(".", SMALLEST | {"environments": environments})
    (made,) = resources(plan, "google_cloudfunctions2_function").values()
    function = FunctionConfig.from_environment(made["service_config"][0]["environment_variables"])
    assert (function.bucket, function.webhook_auth) == ("acme-models", AuthKind.GOOGLE_ID_TOKEN)
    assert function.webhook_for("production-eu") == url
    assert function.limits.freshness["production-eu"].total_seconds() == 22_800  # whole ones, from hours that aren't
    variables = plan["planned_values"]["outputs"]["webhooks"]["value"]["production-eu"]["variables"]
    webhook = WebhookConfig.from_environment(variables)
    assert (webhook.environment, webhook.bucket, webhook.audience) == (
        "production-eu",
        "acme-models",
        "https://cd.example",
    )
    assert webhook.freshness == function.limits.freshness["production-eu"]  # alerts and people go by the same
    assert webhook.callers == {made["service_config"][0]["service_account_email"]}
    assert (webhook.notify_topic, webhook.project) == (function.notify_topic, function.project)
    assert resources(plan, "google_compute_address") == {}  # it is elsewhere


def board_of(plan: dict[str, Any]) -> tuple[dict[str, Any], argparse.Namespace, dict[str, str]]:
    """What the board runs in, its arguments as the command reads them, and its variables."""
    (made,) = (each["template"][0] for each in resources(plan, "google_cloud_run_v2_service").values())
    (container,) = made["containers"]
    return made, parse_arguments(container["args"]), {each["name"]: each["value"] for each in container["env"]}


def test_the_board_asks_the_webhooks_as_one_that_may_only_look_there(terraform: Terraform) -> None:
    urls = {name: f"https://{name}.example/webhooks/webhook/indexpush" for name in ("production", "staging")}
    everything = SMALLEST | {
        "environments": {name: {"webhook_url": url} for name, url in urls.items()},
        "operators": {"members": [], "image": "operator:0.1.0"},
        "network": {"network": "shop", "subnetwork": "shop-eu"},
    }
    plan = terraform.plan(".", everything)
    made, arguments, variables = board_of(plan)
    assert (arguments.sign_in, arguments.webhook) == ("iap", list(urls.values()))
    asked = Webhook.named(arguments.webhook[0], variables)
    assert (asked.tokens is not None, asked.token) == (True, "")
    (within,) = made["vpc_access"]
    assert (within["egress"], within["network_interfaces"][0]["subnetwork"]) == ("PRIVATE_RANGES_ONLY", "shop-eu")
    for each in plan["planned_values"]["outputs"]["webhooks"]["value"].values():
        webhook = WebhookConfig.from_environment(each["variables"])
        assert webhook.readers == {made["service_account"]}
        assert webhook.readers.isdisjoint(webhook.callers)

    some = everything | {"operators": {"members": [], "image": "operator:0.1.0", "webhooks": ["staging"]}}
    plan = terraform.plan(".", some)
    assert board_of(plan)[1].webhook == [urls["staging"]]
    told = {name: each["variables"] for name, each in plan["planned_values"]["outputs"]["webhooks"]["value"].items()}
    assert [name for name, of in told.items() if "WEBHOOK_READERS" in of] == ["staging"]

    none = everything | {"operators": {"members": [], "image": "operator:0.1.0", "webhooks": []}}
    made, arguments, _ = board_of(terraform.plan(".", none))
    assert (arguments.webhook, made["vpc_access"]) == ([], [])


def test_a_collector_is_told_to_those_who_trace_and_to_nobody_unless_it_is_named(terraform: Terraform) -> None:
    elsewhere = SMALLEST | {"environments": {"production": {"webhook_url": "https://cd.example/webhooks/webhook/a"}}}

    def variables(plan: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
        (made,) = resources(plan, "google_cloudfunctions2_function").values()
        webhook = plan["planned_values"]["outputs"]["webhooks"]["value"]["production"]["variables"]
        return made["service_config"][0]["environment_variables"], webhook

    without = terraform.plan(".", elsewhere)
    assert not any(name.startswith("OTEL") for of in variables(without) for name in of)
    collector = {"url": "http://10.0.0.7:4318", "headers_secret": "indexpush-otlp-headers"}
    plan = terraform.plan(".", elsewhere | {"network": {"collector": collector}})
    function, webhook = variables(plan)
    assert function["OTEL_EXPORTER_OTLP_ENDPOINT"] == webhook["OTEL_EXPORTER_OTLP_ENDPOINT"] == collector["url"]
    assert spans_wanted(function)
    assert function["OTEL_TRACES_SAMPLER"] == "always_on"
    assert FunctionConfig.from_environment(function).bucket == "acme-models"
    (made,) = resources(plan, "google_cloudfunctions2_function").values()
    secrets = {each["key"]: each["secret"] for each in made["service_config"][0]["secret_environment_variables"]}
    assert secrets == {"OTEL_EXPORTER_OTLP_HEADERS": "indexpush-otlp-headers"}
    account = made["service_config"][0]["service_account_email"]
    more = Grant(
        f"serviceAccount:{account}",
        "roles/secretmanager.secretAccessor",
        "secret_manager_secret indexpush-otlp-headers",
    )
    assert set(grants(plan)) - set(grants(without)) == {more}


def test_the_function_that_tells_people_takes_its_variables_and_hears_of_what_it_tells(example: Example) -> None:
    plan = example("production")
    made = resources(plan, "google_cloudfunctions2_function")['google_cloudfunctions2_function.function["notify"]']
    service = made["service_config"][0]
    secrets = {each["key"]: each["secret"] for each in service["secret_environment_variables"]}
    assert secrets == {"SLACK_TOKEN": "indexpush-slack-token"}
    config = NotifyConfig.from_environment(service["environment_variables"] | {"SLACK_TOKEN": "xoxb-1"})
    assert (config.bucket, dict(config.slack_channels)) == ("acme-models", {"": "C0123ABCD"})
    heard = resources(plan, "google_storage_notification")
    prefixes = {each["object_name_prefix"] for address, each in heard.items() if address.endswith(' to notify"]')}
    assert prefixes == {"commits/", "deployments/", "incidents/", "reports/"}


def test_what_is_deployed_is_the_function_with_its_contract_and_no_more(terraform: Terraform) -> None:
    folder = terraform.top.parent / "functions" / "on_commit"
    (folder / "on_commit" / "__pycache__").mkdir()
    (folder / "on_commit" / "__pycache__" / "config.pyc").touch()
    terraform.plan(".", SMALLEST)
    with ZipFile(terraform.top / ".terraform" / "indexpush-on-commit.zip") as archive:
        packed = set(archive.namelist())
    wanted = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert packed == wanted - {"README.md", ".gcloudignore"}
    assert {"main.py", "requirements.txt", "model_repository/repository.py"} <= packed


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bucket": "gs://acme-models"}, "3 to 53 small letters"),
        ({"environments": {}}, "at least one"),
        ({"environments": {"Production": {}}}, "small letters, digits and hyphens"),
        ({"network": {"collector": {"url": "10.0.0.7:4318"}}}, "http(s)://host[:port]"),
        ({"network": {"collector": {"url": "http://user:word@10.0.0.7:4318"}}}, "what it wants to see is a secret's"),
    ],
)
def test_what_can_not_work_is_named_before_anything_is_made(
    wrong: dict[str, Any], said: str, terraform: Terraform
) -> None:
    (terraform.top / "test.auto.tfvars.json").write_text(json.dumps(SMALLEST | wrong), encoding="utf-8")
    terraform.said(".", "init", "-backend=false", "-input=false")
    done = terraform.run(".", "plan", "-input=false", "-lock=false")
    assert done.returncode == 1
    assert said in re.sub(r"\s*[│╷╵]?\s+", " ", done.stderr)


def test_a_function_without_its_contract_is_not_deployed(terraform: Terraform) -> None:
    contract = terraform.top.parent / "functions" / "on_commit" / "model_repository"
    contract.rename(contract.with_name("away"))
    try:
        (terraform.top / "test.auto.tfvars.json").write_text(json.dumps(SMALLEST), encoding="utf-8")
        done = terraform.run(".", "plan", "-input=false", "-lock=false")
        assert "run ./noxw -s vendor first" in re.sub(r"\s*[│╷╵]?\s+", " ", done.stderr)
    finally:
        contract.with_name("away").rename(contract)
