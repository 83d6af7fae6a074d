package conmon

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// FuzzAttached sends what another conmon might over its attach socket: nothing
// but output is passed on, and that as it is.
func FuzzAttached(f *testing.F) {
	f.Add([]byte{conmonStdout, 'a'}, []byte{conmonStderr})
	f.Add([]byte{1, 'x'}, []byte{conmonStdout})
	f.Add([]byte{byte(wire.Exit), '{', '}'}, bytes.Repeat([]byte{conmonStdout}, packet+65))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		s := &Stream{fd: pair[0]}
		defer unix.Close(s.fd)
		var want [][]byte
		for _, p := range [][]byte{first, second} {
			if len(p) == 0 || len(p) > 100<<10 { // an empty packet is an end, a big one more than a socket takes
				unix.Close(pair[1])
				return
			}
			if err := unix.Send(pair[1], p, 0); err != nil {
				t.Fatal(err)
			}
			p = bytes.Clone(p[:min(len(p), packet+64)])
			switch p[0] {
			case conmonStdout:
				p[0] = byte(wire.Stdout)
			case conmonStderr:
				p[0] = byte(wire.Stderr)
			default:
				continue
			}
			want = append(want, p)
		}
		unix.Close(pair[1])
		var got [][]byte
		s.copyTo(func(p []byte) error { got = append(got, bytes.Clone(p)); return nil })
		if len(got) != len(want) {
			t.Fatalf("%d packets, not %d", len(got), len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("%q, not %q", got[i], want[i])
			}
		}
	})
}

// FuzzTold reads what conmon tells of a start and of an exit: a process is one
// that there can be, an error is one line.
func FuzzTold(f *testing.F) {
	exits, err := os.MkdirTemp("/dev/shm", "cove-exits-")
	if err != nil {
		f.Skip(err)
	}
	f.Cleanup(func() { os.RemoveAll(exits) })
	for _, s := range []string{`{"data":7}`, `{"pid":7}`, `{"data":-1,"message":"runc: why\n"}`, `{"data":null}`, "137", "-1\n", "[]", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 60<<10 {
			return // more than a pipe holds
		}
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		_, _ = writer.Write(text)
		writer.Close()
		pid, err := Created(reader, time.Minute)
		if err == nil && pid <= 0 {
			t.Errorf("%q: process %d", text, pid)
		}
		if err != nil && bytes.ContainsAny([]byte(err.Error()), "\n\r") {
			t.Errorf("%q: more than a line: %q", text, err)
		}
		if err := os.WriteFile(filepath.Join(exits, "id"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if end, told := ReadEnd(exits, exits, "id"); told && end.Code < 0 {
			t.Errorf("%q: exit code %d", text, end.Code)
		}
	})
}
