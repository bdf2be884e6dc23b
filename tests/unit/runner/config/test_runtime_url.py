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
def test_addresses_where_a_runtime_may_live_are_taken(text):
    assert str(URL.validate_python(text)).startswith(text)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.0.1",
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
def test_link_local_and_metadata_addresses_are_refused_however_they_are_spelt(host):
    with pytest.raises(ValidationError, match=r"link-local|no user"):
        URL.validate_python(f"http://{host}:80/latest")


@pytest.mark.parametrize(
    "text",
    [
        "ftp://tollama",
        "file:///etc/passwd",
        "tollama:11435",
        "//tollama",
        "unix:///run/x",
        "http://",
    ],
)
def test_what_is_no_http_address_is_refused(text):
    with pytest.raises(ValidationError, match="URL"):
        URL.validate_python(text)


@pytest.mark.parametrize("text", ["http://u:p@tollama", "http://u@tollama"])
def test_credentials_in_an_address_are_refused_without_showing_them(text):
    with pytest.raises(ValidationError, match="TSFM_TOLLAMA__API_KEY"):
        URL.validate_python(text)


@pytest.mark.parametrize("text", ["http://tollama/?a=1", "http://tollama/#x"])
def test_nothing_may_stand_behind_the_path(text):
    with pytest.raises(ValidationError, match="must end with its path"):
        URL.validate_python(text)


def test_name_tells_two_runtimes_behind_one_gateway_apart():
    first, second = AnyHttpUrl("http://gateway/a/"), AnyHttpUrl("http://gateway/b")

    assert (runtime_name(first), runtime_name(second)) == ("gateway:80/a", "gateway:80/b")
