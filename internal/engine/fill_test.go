package engine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

func volumeOf(t *testing.T, e *Engine, name string) cove.Volume {
	t.Helper()
	var v cove.Volume
	okay(t, e.store.View(func(tx state.Tx) error { return tx.Get(state.Volumes, name, &v) }))
	return v
}

func TestFillVolume(t *testing.T) {
	e := copyEngine(t)
	m := cove.Mount{Type: "volume", Source: "vol", Destination: "/data"}
	c := record(t, e, "c", func(c *cove.Container) { c.Mounts = []cove.Mount{m} })
	okay(t, e.fillVolumes(t.Context(), c))
	data := e.volumeData("vol")
	for name, want := range map[string]string{"a": "from a", "b": "from b", "hard": "from b", "sub/deep": "deep"} {
		if got, err := os.ReadFile(filepath.Join(data, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	var st, b, hard unix.Stat_t
	okay(t, errors.Join(unix.Lstat(data, &st), unix.Lstat(data+"/b", &b), unix.Lstat(data+"/hard", &hard)))
	if st.Uid != 1234 || st.Gid != 2345 || st.Mode&0o7777 != 0o750 || b.Ino != hard.Ino {
		t.Errorf("%+v", st)
	}
	value := make([]byte, 10)
	if n, err := unix.Getxattr(data+"/b", "user.key", value); err != nil || string(value[:n]) != "value" {
		t.Error(err)
	}
	if target, err := os.Readlink(data + "/link"); err != nil || target != "/etc/passwd" {
		t.Error(target, err)
	}
	if volumeOf(t, e, "vol").NeedsCopyUp {
		t.Error("it is still to be filled")
	}
	entries, err := os.ReadDir(filepath.Dir(data))
	okay(t, err)
	if len(entries) != 1 {
		t.Errorf("something is left: %v", entries)
	}
	// Once only: what the user removes stays removed.
	okay(t, os.Remove(data+"/a"))
	okay(t, e.fillVolumes(t.Context(), c))
	if _, err := os.Lstat(data + "/a"); err == nil {
		t.Error("it was filled twice")
	}
}

func TestFillVolumeLeavesAlone(t *testing.T) {
	e := copyEngine(t)
	for _, test := range []struct {
		name   string
		m      cove.Mount
		before string // a file in the volume
		want   []string
		needs  bool
	}{
		{name: "nocopy", m: cove.Mount{Destination: "/data", Options: []string{"rw", "nocopy"}}, needs: true},
		{name: "notempty", m: cove.Mount{Destination: "/data"}, before: "mine", want: []string{"mine"}, needs: true},
		{name: "absent", m: cove.Mount{Destination: "/nothing/there"}, needs: true},
		{name: "afile", m: cove.Mount{Destination: "/etc/passwd"}, needs: true},
		{name: "emptydir", m: cove.Mount{Destination: "/empty"}},
		{name: "throughlink", m: cove.Mount{Destination: "/data/link"}, needs: true},
	} {
		m := test.m
		m.Type, m.Source = "volume", test.name
		c := record(t, e, test.name, func(c *cove.Container) { c.Mounts = []cove.Mount{m} })
		data := e.volumeData(test.name)
		if test.before != "" {
			put(t, filepath.Join(data, test.before), "")
		}
		for range 2 {
			okay(t, e.fillVolumes(t.Context(), c))
		}
		entries, err := os.ReadDir(data)
		okay(t, err)
		if len(entries) != len(test.want) {
			t.Errorf("%s: %v", test.name, entries)
		}
		if volumeOf(t, e, test.name).NeedsCopyUp != test.needs {
			t.Errorf("%s: needs copy-up %v", test.name, !test.needs)
		}
	}
}

// A volume that is not in the image belongs to the container's user.
func TestFillVolumeOwner(t *testing.T) {
	e := copyEngine(t)
	m := cove.Mount{Type: "volume", Source: "vol", Destination: "/nothing"}
	c := record(t, e, "c", func(c *cove.Container) { c.Spec.User, c.Mounts = "app", []cove.Mount{m} })
	okay(t, e.fillVolumes(t.Context(), c))
	var st unix.Stat_t
	okay(t, unix.Lstat(e.volumeData("vol"), &st))
	if st.Uid != 1234 || st.Gid != 2345 {
		t.Errorf("%+v", st)
	}
}

// A command killed while it filled the volume loses nothing.
func TestFillVolumeAfterKill(t *testing.T) {
	e := copyEngine(t)
	m := cove.Mount{Type: "volume", Source: "vol", Destination: "/data"}
	c := record(t, e, "c", func(c *cove.Container) { c.Mounts = []cove.Mount{m} })
	dir := filepath.Dir(e.volumeData("vol"))
	// While it was staged.
	put(t, filepath.Join(dir, stagedName, "half"), "hal")
	okay(t, e.fillVolumes(t.Context(), c))
	if _, err := os.Lstat(e.volumeData("vol") + "/half"); err == nil {
		t.Error("what was half copied is in the volume")
	}
	if got, err := os.ReadFile(e.volumeData("vol") + "/a"); err != nil || string(got) != "from a" {
		t.Errorf("%q %v", got, err)
	}
	// While it was moved: one file is there, one waits; a container has
	// written meanwhile.
	v := volumeOf(t, e, "vol")
	okay(t, e.update(func(tx state.Tx) error {
		v.NeedsCopyUp = true
		return tx.Put(state.Volumes, "vol", &v)
	}))
	put(t, filepath.Join(dir, readyName, "waiting"), "waited")
	put(t, filepath.Join(dir, readyName, "both"), "image's")
	put(t, e.volumeData("vol")+"/both", "container's")
	okay(t, e.fillVolumes(t.Context(), c))
	for name, want := range map[string]string{"a": "from a", "waiting": "waited", "both": "container's"} {
		if got, err := os.ReadFile(filepath.Join(e.volumeData("vol"), name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if volumeOf(t, e, "vol").NeedsCopyUp {
		t.Error("it is still to be filled")
	}
	if _, err := os.Lstat(filepath.Join(dir, readyName)); err == nil {
		t.Error("what waited is left")
	}
}

// The volume's directory stays the same one: another container may have it.
func TestFillVolumeKeepsDirectory(t *testing.T) {
	e := copyEngine(t)
	m := cove.Mount{Type: "volume", Source: "vol", Destination: "/data"}
	c := record(t, e, "c", func(c *cove.Container) { c.Mounts = []cove.Mount{m} })
	v := volumeOf(t, e, "vol")
	okay(t, e.makeVolumeDir(&v))
	var before, after unix.Stat_t
	okay(t, unix.Lstat(e.volumeData("vol"), &before))
	okay(t, e.fillVolumes(t.Context(), c))
	okay(t, unix.Lstat(e.volumeData("vol"), &after))
	if before.Ino != after.Ino {
		t.Error("it is another one")
	}
}
