import pytest
from pydantic import AnyHttpUrl, TypeAdapter, ValidationError

from runner.config.runtime_url import RuntimeUrl, runtime_name

URL = TypeAdapter(RuntimeUrl)


@pytest.mark.parametrize(
    "text",
    [
        "http://tollama:11435",
        "https://10.0.0.7/runtime",
        "http://[fd00::7]:11435",
        "http://192.168.1.1",
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
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
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
        "xn--metadata-.google.internal@169.254.169.254",
    ],
)
def test_link_local_and_metadata_addresses_are_refused_in_any_spelling(host):
    with pytest.raises(ValidationError, match=r"link-local|no user"):
        URL.validate_python(f"http://{host}:80/latest")


@pytest.mark.parametrize(
    "text",
    [
        "ftp://tollama",
        "file:///etc/passwd",
        "//tollama",
        "http://",
    ],
)
def test_only_http_addresses_are_accepted(text):
    with pytest.raises(ValidationError, match="URL"):
        URL.validate_python(text)


@pytest.mark.parametrize("text", ["http://u:p@tollama", "http://u@tollama"])
def test_credentials_in_an_address_are_refused_without_showing_them(text):
    with pytest.raises(ValidationError, match="TSFM_TOLLAMA__API_KEY"):
        URL.validate_python(text)


@pytest.mark.parametrize("text", ["http://tollama/?a=1", "http://tollama/#x"])
def test_query_and_fragment_are_refused(text):
    with pytest.raises(ValidationError, match="must end with its path"):
        URL.validate_python(text)


def test_runtimes_behind_one_gateway_have_different_names():
    first, second = AnyHttpUrl("http://gateway/a/"), AnyHttpUrl("http://gateway/b")

    assert (runtime_name(first), runtime_name(second)) == ("gateway:80/a", "gateway:80/b")
