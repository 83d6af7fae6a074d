// Package engine holds the verbs: create, start, stop, kill, exec, remove,
// list and so on. It is the only room that calls several others; each verb
// reads as a list of steps, and each step that leaves something behind names
// its undo.
//
// # What is true
//
// The state store keeps what was asked and wanted. The run file in the
// container's directory, written by its monitor, keeps what became of it.
// Whether it runs is asked of the kernel: the monitor holds the lock on the
// run file in that directory for as long as it lives. See reality.go.
//
// # Locks
//
// In this order, and none is held while waiting for a user, a pull or the end
// of a container that was given time to end by itself:
//
//	container, by ID
//	  volume, by name
//	    network, by name
//	      a transaction of the state store
//
// Every other wait under a lock has a deadline. Lists and look-ups take no
// lock but the store's, for one snapshot.
//
// # Crash safety
//
// A record is durable before anything that outlives a killed command exists
// for it. Whatever is made is named after its owner's ID, so the next command
// that has to do with a container (hold.go) finishes or undoes what
// a killed one has left, by looking at the kernel and not at memory. Removing
// deletes the record last.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/event"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/ownplace"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/rootless"
	"github.com/cove-engine/cove/internal/state"
)

// Parts are the rooms an engine works with. They are wired by internal/wiring; none
// may do anything before it is used.
type Parts struct {
	Store state.Store
	// Beside opens the other store on the same graph root, whose containers
	// use the same images.
	Beside func() (state.Store, error)
	// Backend is the name of the store's back end.
	Backend string
	// Migrate moves the store to the configured back end and layout.
	Migrate  func() (Migration, error)
	Locks    lock.Manager
	Images   image.Images
	Networks network.Driver
	// UserNetwork is where an ordinary user's bridges are; nil for root.
	UserNetwork *rootless.Network
	Events      event.Writer
	// Monitor gives the path of the monitor's program, Runtime that of cove's
	// OCI runtime as a program of its own.
	Monitor, Runtime func() (string, error)
	// Builtin gives the image that the program carries, as a docker
	// archive; nil when it carries none.
	Builtin func() ([]byte, error)
	// CDI makes the edits for CDI devices; nil: only the program that Images
	// leaves to can.
	CDI func(s *specs.Spec, dirs, devices []string) (nodes map[string]string, err error)
}

// Engine carries out the verbs. It may be used from several goroutines.
type Engine struct {
	conf     *config.Config
	store    state.Store
	beside   func() (state.Store, error)
	locks    lock.Manager
	images   image.Images
	networks network.Driver
	lan      *rootless.Network // Parts.UserNetwork
	events   event.Writer
	monitor  func() (string, error)
	runtime  func() (string, error)
	backend  string
	migrate  func() (Migration, error)
	// builtinArchive is Parts.Builtin.
	builtinArchive func() ([]byte, error)
	cdi            func(s *specs.Spec, dirs, devices []string) (nodes map[string]string, err error)
	cgroups        func() (cgroup.Layout, error)
	pastaMapsGuest func() bool
	patience       time.Duration // of [Engine.lockUnder]
}

// New makes an engine. It touches nothing on disk.
func New(conf *config.Config, p Parts) *Engine {
	e := &Engine{
		conf: conf, beside: p.Beside, backend: p.Backend, migrate: p.Migrate, locks: p.Locks, images: p.Images, networks: p.Networks, lan: p.UserNetwork,
		events: p.Events, monitor: p.Monitor, runtime: p.Runtime, builtinArchive: p.Builtin, cdi: p.CDI, cgroups: sync.OnceValues(cgroup.Detect), patience: lockPatience,
	}
	e.store = state.Remember(p.Store, state.Paths{
		GraphRoot: conf.GraphRoot, RunRoot: conf.RunRoot, VolumePath: conf.Volumes(), Driver: conf.Driver,
	}, e.running)
	if e.lan != nil {
		e.lan.Keep = e.keepUplink
	}
	e.pastaMapsGuest = sync.OnceValue(func() bool {
		program, err := e.networkProgram("pasta")
		return err == nil && mapsGuest(program)
	})
	return e
}

// running gives the name of a container that runs; "" for none.
func (e *Engine) running(tx state.Tx) (name string, err error) {
	err = tx.List(state.Containers, func(id string, raw []byte) error {
		c, err := decodeContainer(id, raw)
		if errors.Is(err, state.ErrDamaged) {
			c = e.stub(id, id)
		} else if err != nil {
			return err
		}
		if seen, err := e.look(c); err == nil && seen.Run.PID != 0 {
			name = c.Name
		}
		return nil
	})
	return name, err
}

// prepareHome makes the directories that everything else lies in.
func (e *Engine) prepareHome() error {
	for _, dir := range []string{e.conf.Locks(), e.conf.Removed(), e.conf.Containers(), e.conf.Volumes(), e.conf.Merged()} {
		st, err := os.Stat(dir)
		switch {
		case err == nil && st.IsDir():
			continue
		case err == nil && !strings.HasPrefix(dir, e.conf.Base()+"/"): // where somebody has wanted volumes to be
			return cove.E("make directory", dir, cove.Invalid, errors.New("it is a file: move it away, or name another directory"))
		}
		// Above it others may have to pass: the graph root is shared with
		// the ecosystem's tools, which make it 0700 or 0711 themselves.
		if err := ownplace.Directory(dir); err != nil {
			return cove.E("make directory", dir, fileKind(err), err)
		}
	}
	if e.conf.Transient {
		// Two may do it at once, and the next one finds what they leave.
		for _, home := range e.pastBoots() {
			_ = rootfs.RemoveTree(home)
		}
	}
	return nil
}

// pastBoots are the homes of transient stores of boots that are over. One
// with a monitor is not, whatever this process is told of the boot.
func (e *Engine) pastBoots() (homes []string) {
	boots, _ := dirNames(e.conf.Boots())
	for _, boot := range boots {
		home := filepath.Join(e.conf.Boots(), boot)
		if !procfs.OtherBoot(boot) || boot == "volumes" {
			continue
		}
		ids, err := dirNames(filepath.Join(home, "containers"))
		if err == nil && !slices.ContainsFunc(ids, func(id string) bool { return alive(filepath.Join(home, "containers", id)) }) {
			homes = append(homes, home)
		}
	}
	return homes
}

// dir is the container's own directory.
func (e *Engine) dir(id string) string { return filepath.Join(e.conf.Containers(), id) }

// removedDir is where the directory of a container is moved by its monitor when
// --rm is carried out: as long as it is there, and be it empty, the record waits
// to be dropped.
func (e *Engine) removedDir(id string) string { return filepath.Join(e.conf.Removed(), id) }

// emit tells the event log. A log that cannot be written is no reason to fail
// what has already happened.
func (e *Engine) emit(c *cove.Container, status string) {
	_ = e.events.Write(containerEvent(c, status))
}

// monitorEvents is where a container's monitor tells of what it does itself, nil
// for nowhere.
func (e *Engine) monitorEvents(c *cove.Container) *wire.Events {
	told := &wire.Events{Image: c.Image.Name, Labels: labels(c), NoHealth: !e.conf.File.Engine.HealthcheckEvents}
	switch event.Backend(e.conf.File.Engine.EventsLogger) {
	case event.ToNone:
		return nil
	case event.ToJournald:
		told.Store = e.conf.GraphRoot
	default:
		told.Path, told.Max = e.conf.EventLog(), int64(e.conf.File.Engine.EventsLogFileMaxSize)
	}
	return told
}

// emitCreate is emit for a container that was just recorded, with all of it if
// events_container_create_inspect_data asks for it.
func (e *Engine) emitCreate(c *cove.Container) {
	ev := containerEvent(c, "create")
	if e.conf.File.Engine.EventsContainerCreateInspectData {
		if now, err := e.look(c); err == nil {
			if text, err := json.Marshal(now.Inspect()); err == nil {
				ev.InspectData = string(text)
			}
		}
	}
	_ = e.events.Write(ev)
}

// lockUnder takes a lock while another one is held, which its holder's waiting
// must not keep from others for ever.
func (e *Engine) lockUnder(ctx context.Context, k lock.Kind, id string) (lock.Held, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.patience, fmt.Errorf("given up after %s", e.patience))
	defer cancel()
	return e.locks.Lock(ctx, k, id)
}

// lockPatience is long enough for filling a volume from a big image.
const lockPatience = 10 * time.Minute

func (e *Engine) lockContainer(ctx context.Context, id string) (lock.Held, error) {
	return e.locks.Lock(ctx, lock.Container, id)
}
