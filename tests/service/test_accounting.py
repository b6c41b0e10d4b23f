"""What every request is counted as, and what every response carries."""

from __future__ import annotations

from fastapi.testclient import TestClient


def test_methods_that_nobody_knows_are_counted_as_one(client: TestClient) -> None:
    for number in range(20):
        client.request(f"MADEUP{number}", "/v1/status", headers={"Host": "evil.example"})
    assert client.get("/metrics").text.count('method="other"') == 2, "the count, and when it began"


def test_every_response_forbids_what_the_page_does_not_need(client: TestClient) -> None:
    for url in ("/", "/v1/categories", "/v1/nothing", "/static/index.html"):
        headers = client.get(url).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
