package conmon

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// What is in the place of a file of conmon's is not waited for: nobody may ever write to
// a FIFO, or who has it open may not.
func TestReadEndOfNoFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "id")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if end, told := ReadEnd(dir, dir, "id"); told {
		t.Errorf("a FIFO tells %v", end)
	}
	writer, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if end, told := ReadEnd(dir, dir, "id"); told {
		t.Errorf("a FIFO that somebody has open tells %v", end)
	}
	if err := os.WriteFile(filepath.Join(dir, "other"), []byte("3"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("other", name); err != nil {
		t.Fatal(err)
	}
	if end, told := ReadEnd(dir, dir, "id"); told {
		t.Errorf("a link tells %v", end)
	}
}

// A conmon that somebody has stopped keeps nobody waiting who attaches.
func TestAttachToStopped(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, "attach")}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	first, err := Attach(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(first.fd)
	if _, err := Attach(dir); !cove.Is(err, cove.Unavailable) {
		t.Error(err)
	}
}
