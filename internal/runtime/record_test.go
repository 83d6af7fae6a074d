package runtime

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzRecord reads a record that is not as we have written it: it is refused, or
// is about the container whose it is and about no process but one that is named
// by number and start.
func FuzzRecord(f *testing.F) {
	root, err := os.MkdirTemp("/dev/shm", "cove-runtime-")
	if err != nil {
		f.Skip(err)
	}
	f.Cleanup(func() { os.RemoveAll(root) })
	r := &Runtime{Root: root}
	if err := os.Mkdir(r.dir("c"), 0o700); err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{
		`{"version":1,"id":"c","ociVersion":"1.2.0","bundle":"/b","rootfs":"/b/r","complete":true,"pid":1,"pidStart":7,"process":{"cwd":"/","args":["a"]}}`,
		`{"version":1,"id":"../c","complete":true}`, `{"version":1,"id":"c","complete":true,"pid":-1}`, `{"version":1,"id":"c","cgroups":["relative",""]}`,
		`{"version":2,"id":"c"}`, `{"id":7}`, `{"id":"c","process":null,"annotations":{"a":"b"}}`, `[]`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(r.dir("c"), "state.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := r.Open("c")
		if err != nil {
			return
		}
		if c.ID != "c" {
			t.Errorf("%q is about container %q", text, c.ID)
		}
		if c.alive() {
			t.Errorf("%q is about process %d", text, c.PID)
		}
		if s, err := c.State(); err == nil && (s.Status != Stopped || s.PID != 0) {
			t.Errorf("%q: %s, process %d", text, s.Status, s.PID)
		}
		_ = c.hookState(Running)
		if fd, err := c.hold(); err == nil {
			t.Errorf("%q: held descriptor %d", text, fd)
		}
	})
}
