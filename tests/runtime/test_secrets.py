"""Credentials are masked wherever they stand in a text, and nothing else is."""

from __future__ import annotations

import time

import pytest

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.secrets import URLS, complete, mask, masked, remember
from agent_scaling.tracking.store import MODE


@pytest.mark.parametrize(
    "text",
    [
        "http://alice:PW@host/shards",
        "http://alice:P@PW@host/shards",
        "http://alice:/PW@host/shards",
        "http://PW@host:5000",
        "postgresql+psycopg://u:PW@db/mlflow",
        "https://a.blob.core.windows.net/c/x?sv=2024&sig=PW&se=1",
        "https://b.s3.amazonaws.com/k?X-Amz-Signature=PW",
        "https://b.s3.amazonaws.com/k?X-Amz-Credential=PW&X-Amz-Security-Token=PW",
        "https://host/shards?token=PW",
        "GET /shards/manifest.json?access_token=PW HTTP/1.1",
        "Max retries (url: http://alice:PW@host) and http://bob:PW@other",
        "train logger.password=PW",
        "{'Authorization': 'Bearer PW'}",
        "export AWS_SECRET_ACCESS_KEY=PW",
        "AWS_SESSION_TOKEN=PW agent-scaling train",
        "https://host/callback#access_token=PW",
        "fsspec: {'key': 'a', 'secret': 'PW'}",
        '{"aws_secret_access_key": "PW"}',
        *(
            f"https://host/shards?a=1&{query}"
            for query in ("code=PW", "p=PW", "hdnea=PW", "Policy=PW", "ticket=PW", "st=PW", "PW")
        ),
        "https://host/shards?token='PW'",
        "https://host/shards?PWPW==",
        "https://host/shards?token=PW==&PW=",
        "https://host/shards?tok%65n=PW",
        "HTTPConnectionPool(host='host', port=80): Max retries exceeded with url: /x?code=PW (Cau",
        "mysql://u:P/W@PW@host/db",
        "postgresql://u:my PW@host/db",
        "http:/alice:PW@host/shards",
        "https:///alice:PW@host/shards",
        "http:/host/shards?code=PW",
        "AccountName=a;AccountKey=PW==;EndpointSuffix=x",
        "password: PW",
        "{password: PW, token:PW}",
        "{'secret': \"P'PW\"}",
        "X-Api-Key: PW",
        "Cookie: session=PW",
        "Authorization: Digest username=u, response=PW",
        "train +callbacks.mine={token:PW}",
        "user:PW@host:5000",
        "user:PW@host/x",
        "user:P/W:PW@host/x",
        "us.er:P@PW@host",
        "logger.tracking_uri=user:PW@host:5000",
        "'data.shards=user:PW@host/x'",
        "{shards:user:PW@host/x}",
        "[a,user:PW@host]",
        "user:PW@[::1]:5000",
        "https://host/sig/PW/shards",
        "s3://bucket.host/signed/PW",
        "https://host/api/token/PW",
        "https://host/s/aB3dE5gPW9jK2m/shards",
        "https://host/share/0123456789abcdefPW",
        "Max retries exceeded with url: /s/aB3dE5gPW9jK2m/shards (host",
        "GET /access_token/PW/x HTTP/1.1",
        "https://hooks.slack.com/services/TPW/BPW/aPWb",
        "https://discord.com/api/webhooks/1PW/PW",
        "http://host/a/ghp_PWabcdefghijklmnopqrst/x",
        "key eyJhbGciOiPW.eyJzdWIiOiPW.SflKxPW of host",
        "hf_PWabcdefghijklmnopqrstuv",
    ],
)
def test_a_credential_is_masked(text: str) -> None:
    assert "PW" in text
    assert "PW" not in mask(text)
    assert "PW" not in str(InputError(text))
    assert "host" not in text or "host" in mask(text)
    assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/a@b/mlflow.db",
        "file:///data/x@y",
        "http://127.0.0.1:5000/#/experiments/1/runs/a@b",
        "http://host:5000/x@y?page=2",
        "s3://bucket/shards",
        "output=run@home tokens=1e9 policy.keys=3",
        "a: b = c?d",
        "{'tokens': '1e9', 'secretary': 'ann'}",
        "http://127.0.0.1:5000/#/experiments/1?searchFilter=a",
        f"http://127.0.0.1:5000/#/experiments/1?{MODE}",
        "http://host:8080/a@b/c",
        "http://[::1]:80/a@b",
        "/tmp/user:pw@host/x",
        "/tmp/a?b=c/mlflow.db",
        "sqlite:////tmp/a?b=c/mlflow.db",
        "abfss://container@account.dfs.core.windows.net/shards",
        "postgresql://host/db?sslmode=require&connect_timeout=10",
        "s3://bucket/shards?versionId=abc",
        "http://127.0.0.1:5000/#/experiments/1/runs/a6c9da7e7a6c434693aef9f63868109d",
        "https://token/shards/tokens/1B",
        "https://host/s/nethack-shards-2024/train",
        "https://host/d/experiments/x",
        "https://host/services/shards",
        "file:///s/aB3dE5gPW9jK2m/shards",
        "at 12:30:05 of 127.0.0.1:5000/a@b",
        "image:1.2",
        "ann@host.org: see data_modules/shards.py:12",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert mask(text) == text


def test_values_under_telling_names_are_masked() -> None:
    given = {"storage": {"password": "PW", "user": "u"}, "urls": ["http://a:PW@h"], "tokens": "9"}
    expected = {"storage": {"password": "***", "user": "u"}, "urls": ["http://***@h"]}
    assert masked(given) == expected | {"tokens": "9"}
    numbers = {"password": 12345678, "callbacks.mine.apikey": "PW", "credentials": {"a": ["PW"]}}
    assert masked(numbers) == {
        "password": "***",
        "callbacks.mine.apikey": "***",
        "credentials": {"a": ["***"]},
    }
    assert masked({"http://a:PW@h": {"token": None, "secret": False}}) == {
        "http://***@h": {"token": None, "secret": False}
    }
    reference = {"password": "${oc.env:PASSWORD}"}
    assert masked(reference) == reference


def test_a_long_text_is_masked_in_no_time() -> None:
    began = time.process_time()
    for text in (
        "a:",
        "http://",
        "?a=b&",
        "token='",
        "a@",
        "url: /",
        "\\\\",
        "a_",
        "a:b",
        "/s/",
        "eyJ",
    ):
        mask(text * 10_000)
        mask(text * 10_000 + " ?@")
    assert time.process_time() - began < 2


def test_a_masked_url_is_completed_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URLS, "")
    url = "https://h/shards?token=PW"
    assert complete(mask(url)) == mask(url)
    remember(url)
    assert complete(mask(url)) == url
