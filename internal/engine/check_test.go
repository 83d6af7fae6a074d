package engine

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/state"
)

// differences runs a check and gives "kind problem" of what it finds, sorted.
func differences(t *testing.T, e *Engine, repair bool) []string {
	t.Helper()
	found, err := e.Check(t.Context(), repair, false)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range found {
		s := d.Kind + ": " + d.Problem
		if repair && !d.Repaired {
			s += " (left)"
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func inStore(t *testing.T, e *Engine, fn func(state.Tx) error) {
	t.Helper()
	if err := e.store.Update(fn); err != nil {
		t.Fatal(err)
	}
}

// Every kind of damage is told, nothing is changed by telling, and after one
// repair nothing is left of it.
func TestCheckFindsAndRepairs(t *testing.T) {
	needRoot(t)
	lost := strings.Repeat("ab", 32) // an ID of ours without a record
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, e *Engine, r *fakeRooms, c *cove.Container)
		want   []string
	}{
		{"nothing", func(*testing.T, *Engine, *fakeRooms, *cove.Container) {}, nil},
		{"directory without record", func(t *testing.T, e *Engine, _ *fakeRooms, _ *cove.Container) {
			mustWrite(t, filepath.Join(e.dir(lost), "diff/f"), "x")
		}, []string{"directory: its container has no record"}},
		{"record without directory", func(t *testing.T, e *Engine, _ *fakeRooms, c *cove.Container) {
			_ = os.RemoveAll(e.dir(c.ID))
		}, []string{"directory: missing, with the container's files"}},
		{"writable layer missing", func(t *testing.T, e *Engine, _ *fakeRooms, c *cove.Container) {
			_ = os.RemoveAll(filepath.Join(e.dir(c.ID), "diff"))
		}, []string{"layer: missing, with what the container has written"}},
		{"removal cut short", func(t *testing.T, e *Engine, _ *fakeRooms, c *cove.Container) {
			inStore(t, e, func(tx state.Tx) error { c.Intent = cove.BeingRemoved; return tx.Put(state.Containers, c.ID, c) })
		}, []string{"record: its removal was cut short"}},
		{"monitor killed while removing", func(t *testing.T, e *Engine, _ *fakeRooms, c *cove.Container) {
			if err := os.Rename(e.dir(c.ID), e.removedDir(c.ID)); err != nil {
				t.Fatal(err)
			}
		}, []string{"directory: its monitor was killed while it removed the container"}},
		{"end not recorded", func(t *testing.T, e *Engine, _ *fakeRooms, c *cove.Container) {
			run := cove.Run{Generation: 1, BootID: procfs.BootID(), PID: 1, Started: time.Now()}
			f, err := runfile.Open(e.dir(c.ID))
			if err == nil {
				err = f.Write(&run, false)
				f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}, []string{"record: its end was not recorded: monitor lost"}},
		{"lock files", func(t *testing.T, e *Engine, _ *fakeRooms, _ *cove.Container) {
			for _, name := range []string{"container-" + lost, "volume-v", "network-n"} {
				mustWrite(t, filepath.Join(e.conf.Locks(), name), "")
			}
		}, []string{"lock: its container has no record", "lock: its network has no record", "lock: its volume has no record"}},
		{"links and elements", func(t *testing.T, e *Engine, r *fakeRooms, c *cove.Container) {
			mustWrite(t, filepath.Join(e.conf.Locks(), "container-"+lost), "")
			r.networks.reality = network.Reality{
				Links:    []network.Link{{Name: network.LinkName(lost, 0), OwnerPrefix: lost[:12]}, {Name: network.LinkName(c.ID, 0), OwnerPrefix: c.ID[:12]}},
				Elements: []network.Element{{ContainerID: lost, HostPort: 80, Protocol: "tcp"}, {ContainerID: c.ID, HostPort: 81, Protocol: "tcp"}},
			}
		}, []string{
			"link: its container does not run", "link: its container has no record", "lock: its container has no record",
			"nft: its container does not run", "nft: its container has no record",
		}},
		{"sockets and names", func(t *testing.T, e *Engine, _ *fakeRooms, c *cove.Container) {
			mustWrite(t, e.socket(c.ID), "")
			mustWrite(t, filepath.Join(e.namesDir(), "front", "a", c.ID), "10.0.0.1\n")
		}, []string{"name: its container does not run", "socket: its container does not run"}},
		{"name index", func(t *testing.T, e *Engine, _ *fakeRooms, c *cove.Container) {
			inStore(t, e, func(tx state.Tx) error {
				if err := tx.Release(state.Containers, c.Name); err != nil {
					return err
				}
				return tx.Claim(state.Containers, "ghost", lost)
			})
		}, []string{"name: the name is claimed, and no record has it", "name: the record's name is not claimed"}},
		{"leases", func(t *testing.T, e *Engine, _ *fakeRooms, c *cove.Container) {
			inStore(t, e, func(tx state.Tx) error {
				if err := tx.Unlease("podman", c.ID); err != nil {
					return err
				}
				a := netip.MustParseAddr("10.87.3.4")
				_, err := tx.Lease("podman", netip.MustParsePrefix("10.87.0.0/16"), a, a, a, nil, lost)
				return err
			})
		}, []string{"lease: leased, and no container has the address", "lease: the container has the address without a lease"}},
		{"volumes", func(t *testing.T, e *Engine, _ *fakeRooms, _ *cove.Container) {
			for _, name := range []string{"half", "bare"} {
				if _, err := e.CreateVolume(t.Context(), cove.Volume{Name: name}, false); err != nil {
					t.Fatal(err)
				}
			}
			_ = os.RemoveAll(filepath.Dir(e.volumeData("bare")))
			inStore(t, e, func(tx state.Tx) error {
				return tx.Put(state.Volumes, "half", &cove.Volume{Name: "half", Intent: cove.BeingRemoved})
			})
			if err := os.MkdirAll(e.volumeData("empty"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, []string{"directory: its volume has no record", "volume: its directory is missing, with its content", "volume: its removal was cut short"}},
		{"network's removal cut short", func(t *testing.T, e *Engine, _ *fakeRooms, _ *cove.Container) {
			inStore(t, e, func(tx state.Tx) error { return setGoing(tx, []cove.Network{{Name: "n", ID: network.ID("n")}}) })
		}, []string{"network: its removal was cut short"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e, r := engineWith(t)
			c := stored(t, e, "a", onNetwork("podman"))
			test.damage(t, e, r, c)
			for range 2 {
				if got := differences(t, e, false); !slices.Equal(got, test.want) {
					t.Fatalf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
				}
			}
			if got := differences(t, e, true); !slices.Equal(got, test.want) {
				t.Errorf("repaired\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			if got := differences(t, e, false); len(got) > 0 {
				t.Errorf("after the repair\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// What other stores of the machine have is none of our business; what somebody
// is working on is no difference.
func TestCheckLeavesAlone(t *testing.T) {
	e, r := engineWith(t)
	foreign := strings.Repeat("cd", 32)
	r.networks.reality = network.Reality{
		Links:    []network.Link{{Name: network.LinkName(foreign, 0), OwnerPrefix: foreign[:12]}},
		Elements: []network.Element{{ContainerID: foreign, HostPort: 80, Protocol: "tcp"}},
		Bridges:  []network.Bridge{{Name: "cove7", NetworkID: network.ID("theirs")}, {Name: "cove8"}},
	}
	mustWrite(t, e.socket(foreign), "")
	mustWrite(t, filepath.Join(e.namesDir(), "theirs", "web", foreign), "10.0.0.1\n")
	busy := strings.Repeat("ef", 32)
	mustWrite(t, filepath.Join(e.dir(busy), "diff/f"), "x")
	l, err := e.lockContainer(t.Context(), busy)
	if err != nil {
		t.Fatal(err)
	}
	if got := differences(t, e, true); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	if len(r.networks.reality.Links) != 1 || len(r.networks.reality.Elements) != 1 || !exists(e.socket(foreign)) {
		t.Error("something of another store was removed")
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	// Now only its monitor stands in the way.
	alive, err := os.OpenFile(filepath.Join(e.dir(busy), runfile.Name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	if err := unix.Flock(int(alive.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if got := differences(t, e, true); len(got) > 0 || !exists(e.dir(busy)) {
		t.Errorf("found %q", got)
	}
}

// A store that was put in the place of another one must not cost the
// containers of the first their files, nor volumes their content.
func TestCheckReplacedStore(t *testing.T) {
	needRoot(t)
	e, _ := engineWith(t)
	c := stored(t, e, "a", nil)
	if _, err := e.CreateVolume(t.Context(), cove.Volume{Name: "v"}, false); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(e.volumeData("v"), "f"), "x")
	mustWrite(t, filepath.Join(e.dir(c.ID), "diff/f"), "x")
	if got := differences(t, e, true); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	inStore(t, e, func(tx state.Tx) error {
		if err := tx.SetMeta(storeIDFile, nil); err != nil {
			return err
		}
		if err := tx.Delete(state.Volumes, "v"); err != nil {
			return err
		}
		return e.dropRecord(tx, c)
	})
	differences(t, e, true)
	for _, name := range []string{filepath.Join(e.dir(c.ID), "diff/f"), filepath.Join(e.volumeData("v"), "f")} {
		if !exists(name) {
			t.Errorf("%s is gone", name)
		}
	}
	if got := differences(t, e, false); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "store: ") }) {
		t.Errorf("found %q, want the store among it", got)
	}
}

func TestCheckCgroups(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making cgroups needs root")
	}
	e, _ := engineWith(t)
	layout, err := e.cgroups()
	if err != nil {
		t.Skip("no cgroups here: ", err)
	}
	c, foreign := stored(t, e, "a", nil), newID()
	var dirs []string
	for _, id := range []string{c.ID, foreign} {
		d, err := layout.At(cgroupParent + "/" + id)
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, d[0])
		if err := os.MkdirAll(d[0], 0o755); err != nil {
			t.Skip("cgroups cannot be made here: ", err)
		}
		t.Cleanup(func() { _ = os.Remove(d[0]) })
	}
	want := []string{"cgroup: its container does not run"}
	for _, repair := range []bool{false, true} {
		if got := differences(t, e, repair); !slices.Equal(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
	}
	if got := differences(t, e, false); len(got) > 0 {
		t.Errorf("after the repair %q", got)
	}
	if exists(dirs[0]) || !exists(dirs[1]) {
		t.Error("ours must go, the other store's must stay")
	}
}

func TestCheckEmptyHome(t *testing.T) {
	e, _ := engineWith(t)
	if err := os.RemoveAll(e.conf.Home()); err != nil {
		t.Fatal(err)
	}
	if got := differences(t, e, true); len(got) > 0 || exists(e.conf.Home()) {
		t.Errorf("found %q", got)
	}
}

// The layers of a container's image, and what keeps other tools from them.
func TestCheckLayers(t *testing.T) {
	e, r := engineWith(t)
	c := stored(t, e, "a", func(c *cove.Container) {
		c.Image.ID, c.Image.Name = strings.Repeat("cd", 32), "example.org/app:1"
		c.Image.Layers = []string{"overlay/layer/diff", t.TempDir()}
	})
	layer := filepath.Join(e.conf.GraphRoot, c.Image.Layers[0])
	pin := filepath.Join(e.conf.GraphRoot, "overlay", image.PinID("layer", c.Image.ID))
	record := filepath.Join(e.conf.GraphRoot, "overlay", image.PinID("container layer", c.Image.ID))
	for _, dir := range []string{layer, pin, record} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := differences(t, e, false); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	for dir, want := range map[string]string{layer: "layer: missing", pin: "pin: missing", record: "pin: missing"} {
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		if got := differences(t, e, false); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("found %q, want %s", got, want)
		}
		if got := differences(t, e, true); strings.HasPrefix(want, "pin") != (len(r.images.resolved) == 1 && r.images.resolved[0] == c.Image.ID) {
			t.Errorf("repaired %q by %q", got, r.images.resolved)
		}
		r.images.resolved = nil
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
	}
}

// What is removed while a check is under way leaves no lock that only the
// check's asking has made.
func TestCheckMakesNoLocks(t *testing.T) {
	e, _ := engineWith(t)
	o := lock.Object{Kind: lock.Volume, ID: "going"}
	k := &survey{e: e, ctx: t.Context(), locks: []lock.Object{o}}
	k.suspicions = []suspicion{{kind: o.Kind, id: o.ID, still: func() (bool, error) { return true, nil }}}
	k.lockFiles()
	for _, s := range k.suspicions {
		if d, is, err := k.confirm(s, false); is || err != nil {
			t.Errorf("%v, %v, %v", d, is, err)
		}
	}
	if known, err := e.locks.Known(); len(known) > 0 || err != nil {
		t.Errorf("locks: %v, %v", known, err)
	}
}

// A repair that has not helped is none.
func TestRepairWithoutEffect(t *testing.T) {
	for _, there := range []bool{true, false} {
		s := suspicion{still: func() (bool, error) { return there, nil }}
		if s.mend(func() error { return nil }); s.Repaired == there {
			t.Errorf("still there %v: repaired %v", there, s.Repaired)
		}
	}
}
