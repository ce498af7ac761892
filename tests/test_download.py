"""A download ends: with a whole file of the right digest, or with a reason and nothing left behind."""

import contextlib
import hashlib
import socket
import threading

import pytest

from quadtok.download import fetch
from quadtok.errors import OutputError

DATA = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()
NAME = f"net-{DIGEST[:10]}.pth"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
WHOLE = OK % len(DATA) + DATA
STALLS = float("inf")  # seconds: the server sends no more and keeps the line open


@contextlib.contextmanager
def server(*sends):
    """One that accepts, reads the question, sends these bytes, with pauses of so many seconds, and closes."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                for send in sends:
                    if isinstance(send, float):
                        done.wait(min(send, 30))
                    else:
                        connection.sendall(send)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/models/"
    finally:
        done.set()
        listener.close()
        thread.join(10)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def fetched(folder, *sends, name=NAME, **options):
    with server(*sends) as address:
        return fetch(address + name, folder, patience=0.5, **options)


def test_a_whole_file_is_written_under_its_own_name(tmp_path, capsys):
    path = fetched(tmp_path / "new" / "folder", WHOLE)
    assert path == tmp_path / "new" / "folder" / NAME
    assert path.read_bytes() == DATA
    assert [entry.name for entry in path.parent.iterdir()] == [NAME]
    said = capsys.readouterr()
    assert said.out == "" and NAME in said.err and "(0.3 MB)" in said.err


def test_a_file_that_is_there_is_not_fetched_again(tmp_path):
    (tmp_path / NAME).write_bytes(b"mine")
    assert fetched(tmp_path).read_bytes() == b"mine"


def test_a_name_without_a_digest_and_an_answer_without_a_length_will_do(tmp_path):
    assert fetched(tmp_path, b"HTTP/1.0 200 OK\r\n\r\n", DATA, name="net.pth").read_bytes() == DATA


def test_parts_that_come_slowly_are_waited_for(tmp_path):
    """The limit is for each part, not for the whole."""
    with server(OK % len(DATA), 0.7, DATA[:1000], 0.7, DATA[1000:2000], 0.7, DATA[2000:]) as address:
        assert fetch(address + NAME, tmp_path, patience=2.0).read_bytes() == DATA


HEAD = OK % len(DATA)
TORN = DATA[:-1]
CASES = {
    "no answer": ([STALLS], "no answer within 0.5 seconds"),
    "half a status line": ([b"HTTP/1.1 20", STALLS], "no answer within 0.5 seconds"),
    "half a header": ([HEAD[:-2], STALLS], "no answer within 0.5 seconds"),
    "a header alone": ([HEAD, STALLS], f"nothing more came for 0.5 seconds, after 0 of {len(DATA)} bytes"),
    "a part": ([HEAD, DATA[:70_000], STALLS], f"nothing more came for 0.5 seconds, after 70000 of {len(DATA)} bytes"),
    "cut": ([HEAD, DATA[:70_000]], f"the connection ended after 70000 of {len(DATA)} bytes"),
    "cut, of no stated length": (
        [b"HTTP/1.0 200 OK\r\n\r\n", TORN],
        f"the sha256 of the {len(TORN)} bytes begins {hashlib.sha256(TORN).hexdigest()[:10]}, not {DIGEST[:10]}",
    ),
    "cut between chunks": ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"], "IncompleteRead"),
    "other bytes": ([HEAD, DATA[::-1]], f"not {DIGEST[:10]}"),
    "empty": ([OK % 0], f"not {DIGEST[:10]}"),
    "a length that is none": ([b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", TORN], f"not {DIGEST[:10]}"),
    "not found": ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], "404: Not Found"),
    "sent to a file": ([b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n"], "302"),
    "another protocol": ([b"SSH-2.0-OpenSSH\r\n"], "BadStatusLine"),
    "closed at once": ([], "closed connection without response"),
}


@pytest.mark.parametrize("case", CASES)
def test_anything_else_is_a_reason_and_leaves_nothing(tmp_path, case):
    sends, reason = CASES[case]
    with pytest.raises(OSError) as caught:
        fetched(tmp_path / "cache", *sends)
    assert reason in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_server_that_takes_no_connection_is_given_up(tmp_path):
    """Its queue is full: what a network does that swallows packets."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        with pytest.raises(OSError, match=r"no answer within 0\.5 seconds"):
            fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/{NAME}", tmp_path, patience=0.5)


def test_nobody_listens(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match="Connection refused"):
        fetch(f"http://127.0.0.1:{port}/{NAME}", tmp_path, patience=0.5)


def test_what_never_ends_is_not_kept(tmp_path):
    with pytest.raises(OSError, match="larger than the 100000 bytes"):
        fetched(tmp_path, b"HTTP/1.0 200 OK\r\n\r\n", DATA, largest=100_000)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file"):
        fetched(tmp_path / "file" / "cache", WHOLE)


def test_sockets_of_others_keep_their_time_limit(tmp_path):
    fetched(tmp_path, WHOLE)
    assert socket.getdefaulttimeout() is None
