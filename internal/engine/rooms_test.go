package engine

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	conf "go.podman.io/common/pkg/config"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/lock/file"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/teardown"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/memory"
)

// fakeRooms are the rooms beside the store and the locks, which are real.
type fakeRooms struct {
	networks fakeNetworks
	images   fakeImages
	events   fakeEvents
}

// needRoot skips a test whose files get owners, or whose processes other users or roots.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// engineWith gives an engine on empty directories with fake rooms.
func engineWith(t *testing.T) (*Engine, *fakeRooms) {
	t.Helper()
	c := &config.Config{File: &conf.Config{}, GraphRoot: t.TempDir(), RunRoot: t.TempDir(), Driver: "overlay"}
	r := &fakeRooms{}
	e := New(c, Parts{
		Store: memory.Open(), Locks: file.New(c.Locks()), Images: &r.images, Networks: &r.networks, Events: &r.events,
		Beside:  func() (state.Store, error) { return memory.Open(), nil },
		Monitor: func() (string, error) { return "/nowhere/cove-monitor", nil },
	})
	if err := e.prepareHome(); err != nil {
		t.Fatal(err)
	}
	return e, r
}

// fakeEvents keeps what it is told as "type status name", of networks theirs.
type fakeEvents struct {
	mu        sync.Mutex
	all       []string // under mu
	inspected string   // of events that tell all, under mu
}

func (f *fakeEvents) Write(e cove.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, e.Type+" "+e.Status+" "+cmp.Or(e.Name, e.Network))
	f.inspected += e.InspectData
	return nil
}

func (f *fakeEvents) has(t *testing.T, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.all, want) {
		t.Errorf("events %q, want %q", f.all, want)
	}
	f.all = nil
}

// fakeNetworks is a kernel with links, bridges and elements.
type fakeNetworks struct {
	network.Driver
	reality network.Reality
	host    network.Occupied
	removed []string // networks
	fail    error    // of RemoveNetwork
}

func (f *fakeNetworks) List(context.Context) (network.Reality, error) {
	r := f.reality
	r.Links, r.Elements, r.Bridges = slices.Clone(r.Links), slices.Clone(r.Elements), slices.Clone(r.Bridges)
	return r, nil
}
func (f *fakeNetworks) Occupied(context.Context) (network.Occupied, error) { return f.host, nil }
func (f *fakeNetworks) Setup(context.Context, network.Request) (teardown.Teardown, error) {
	return teardown.Teardown{}, errors.New("not here")
}
func (f *fakeNetworks) RemoveNetwork(_ context.Context, n cove.Network) error {
	if f.fail != nil {
		return f.fail
	}
	f.removed = append(f.removed, n.Name)
	return nil
}
func (f *fakeNetworks) RemoveLink(_ context.Context, name string) error {
	f.reality.Links = slices.DeleteFunc(f.reality.Links, func(l network.Link) bool { return l.Name == name })
	return nil
}
func (f *fakeNetworks) RemoveElements(_ context.Context, id string) error {
	f.reality.Elements = slices.DeleteFunc(f.reality.Elements, func(e network.Element) bool { return e.ContainerID == id })
	return nil
}

// fakeImages is a store of images that refuses to remove used ones.
type fakeImages struct {
	image.Images
	all              []image.Summary
	loaded, resolved []string
	damage           []image.Damage
}

// Check finds what the test has put there.
func (f *fakeImages) Check(context.Context, func() image.Users) ([]image.Damage, error) {
	return f.damage, nil
}

func (f *fakeImages) find(name string) *image.Summary {
	for i := range f.all {
		s := &f.all[i]
		if slices.Contains(s.Names, name) || strings.HasPrefix(s.ID, strings.TrimPrefix(name, "sha256:")) {
			return s
		}
	}
	return nil
}

func (f *fakeImages) Exists(name string) (bool, error) { return f.find(name) != nil, nil }

func (f *fakeImages) Inspect(_ context.Context, name string) (*image.ImageData, error) {
	s := f.find(name)
	if s == nil {
		return nil, cove.E("", name, cove.NotFound, errors.New("image not known"))
	}
	return &image.ImageData{ID: s.ID, RepoTags: s.Names}, nil
}

func (f *fakeImages) List(_ context.Context, o image.ListOptions) ([]image.Summary, error) {
	out := slices.Clone(f.all)
	for i := range out {
		if o.Users != nil {
			out[i].Containers = len(o.Users(out[i].ID))
		}
	}
	return out, nil
}

func (f *fakeImages) LoadBuiltin(_ context.Context, name string, data []byte) error {
	f.loaded = append(f.loaded, name+" "+string(data))
	f.all = append(f.all, image.Summary{ID: strings.Repeat("b", 64), Names: []string{name}})
	return nil
}

func (f *fakeImages) Pull(_ context.Context, name string, _ image.PullOptions) ([]string, error) {
	if s := f.find(name); s != nil {
		return []string{s.ID}, nil
	}
	return nil, cove.E("pull image", name, cove.Unavailable, errors.New("no registry"))
}

func (f *fakeImages) Load(_ context.Context, path string, _ image.LoadOptions) ([]string, error) {
	return []string{f.all[0].Names[0]}, nil
}

func (f *fakeImages) LoadFrom(ctx context.Context, _ io.Reader, o image.LoadOptions) ([]string, error) {
	return f.Load(ctx, "", o)
}

func (f *fakeImages) Ready() error { return nil }

func (f *fakeImages) Resolve(_ context.Context, name, _ string) (cove.ImageConfig, error) {
	f.resolved = append(f.resolved, name)
	return cove.ImageConfig{}, nil
}

func (f *fakeImages) Tag(string, ...string) error { return nil }
func (f *fakeImages) Untag(nameOrID string, names ...string) error {
	for i := range f.all {
		s := &f.all[i]
		if s.ID == nameOrID || slices.Contains(s.Names, nameOrID) {
			s.Names = slices.DeleteFunc(slices.Clone(s.Names), func(n string) bool { return len(names) == 0 || slices.Contains(names, n) })
		}
	}
	return nil
}

func (f *fakeImages) Remove(_ context.Context, names []string, _ image.RemoveOptions, users image.Users) ([]image.RemoveReport, error) {
	var out []image.RemoveReport
	var errs []error
	for _, name := range names {
		s := f.find(name)
		switch {
		case len(s.Names) > 1 && slices.Contains(s.Names, name):
			s.Names = slices.DeleteFunc(slices.Clone(s.Names), func(n string) bool { return n == name })
			out = append(out, image.RemoveReport{ID: s.ID, Untagged: []string{name}})
		case len(users(s.ID)) > 0:
			errs = append(errs, cove.E("", "", cove.InUse, errors.New("used by "+strings.Join(users(s.ID), ", "))))
		default:
			out = append(out, image.RemoveReport{ID: s.ID, Untagged: s.Names, Deleted: true})
			id := s.ID
			f.all = slices.DeleteFunc(f.all, func(s image.Summary) bool { return s.ID == id })
		}
	}
	return out, errors.Join(errs...)
}

// stored makes a container that does not run, with its lease, lock and
// directory as a create leaves them.
func stored(t *testing.T, e *Engine, name string, change func(*cove.Container)) *cove.Container {
	t.Helper()
	c := &cove.Container{Schema: cove.Schema, ID: newID(), Name: name, Created: time.Now(), Desired: cove.DesireStop}
	if change != nil {
		change(c)
	}
	err := e.update(func(tx state.Tx) error {
		if err := tx.Claim(state.Containers, c.Name, c.ID); err != nil {
			return err
		}
		if err := e.lease(tx, c, nil); err != nil {
			return err
		}
		return tx.Put(state.Containers, c.ID, c)
	})
	if err == nil {
		err = e.makeDir(c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func onNetwork(name string) func(*cove.Container) {
	return func(c *cove.Container) {
		c.Attachments = []cove.NetworkAttachment{{Network: name, Interface: "eth0", MAC: "02:00:00:00:00:01"}}
	}
}

// wantKind compares an error's kind and, unless "", a part of its text.
func wantKind(t *testing.T, err error, kind cove.Kind, text string) {
	t.Helper()
	if err == nil || cove.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v (kind %d), want kind %d and %q", err, cove.KindOf(err), kind, text)
	}
}

func mustWrite(t *testing.T, name, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
