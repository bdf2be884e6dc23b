import pytest
from pydantic import TypeAdapter, ValidationError

from runner.config.runtime_url import RuntimeUrl

URL = TypeAdapter(RuntimeUrl)


@pytest.mark.parametrize(
    "text",
    [
        "http://tollama:11435",
        "https://10.0.0.7/runtime",
        "http://[fd00::7]:11435",
        "http://metadata-of-mine.example",
    ],
)
def test_addresses_of_runtimes_are_accepted(text):
    assert str(URL.validate_python(text)).startswith(text)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "2852039166",  # 169.254.169.254 as one number
        "[fe80::1]",
        "[febf::1]",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "metadata",
        "metadata.goog",
        "instance-data.ec2.internal",
        "metadata.azure.internal",
    ],
)
def test_link_local_and_metadata_addresses_are_refused_in_any_spelling(host):
    with pytest.raises(ValidationError, match="link-local"):
        URL.validate_python(f"http://{host}:80/latest")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://tollama", "URL"),
        ("http://", "URL"),
        ("http://u:p@tollama", "TSFM_TOLLAMA__API_KEY"),
        ("http://u@tollama", "TSFM_TOLLAMA__API_KEY"),
        ("http://tollama/?a=1", "must end with its path"),
        ("http://tollama/#x", "must end with its path"),
    ],
)
def test_other_schemes_credentials_queries_and_fragments_are_refused(text, words):
    with pytest.raises(ValidationError, match=words):
        URL.validate_python(text)
