package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/cove-engine/cove"
)

// pathsKey is the key in [TableMeta] of the [Paths] that the store was last
// used with, as JSON.
const pathsKey = "paths"

// Paths are where the things lie that the records are about.
type Paths struct {
	GraphRoot  string `json:"graphRoot"`
	RunRoot    string `json:"runRoot"`
	VolumePath string `json:"volumePath"`
	Driver     string `json:"driver"`
}

// Remember is a store that looks, in the first transaction of this process,
// whether its records are about things at p, and remembers p in the first
// update. The graph root may have moved, and the store with it; other paths may
// change while nothing lies there: volumes, containers made of the driver's
// layers, running containers with their sockets under the run root, of which
// running gives the name of one.
func Remember(s Store, p Paths, running func(Tx) (string, error)) Store {
	return &remembering{Store: s, paths: p, running: running}
}

type remembering struct {
	Store
	paths   Paths
	running func(Tx) (string, error)
	seen    atomic.Bool // it has been looked
}

func (s *remembering) View(fn func(Tx) error) error {
	return s.Store.View(func(tx Tx) error {
		if err := s.check(tx, false); err != nil {
			return err
		}
		return fn(tx)
	})
}

func (s *remembering) Update(fn func(Tx) error) error {
	stored := false
	err := s.Store.Update(func(tx Tx) error {
		if err := s.check(tx, true); err != nil {
			return err
		}
		stored = true
		return fn(tx)
	})
	if err == nil && stored {
		s.seen.Store(true)
	}
	return err
}

func (s *remembering) check(tx Tx, write bool) error {
	if s.seen.Load() {
		return nil
	}
	raw, err := tx.Meta(pathsKey)
	if err != nil {
		return err
	}
	now, err := json.Marshal(s.paths)
	if err != nil {
		return cove.E("remember paths", "", cove.Internal, err)
	}
	if string(raw) == string(now) {
		s.seen.Store(true)
		return nil
	}
	if raw != nil {
		var was Paths
		if err := json.Unmarshal(raw, &was); err != nil {
			return cove.E("read paths", "", cove.Internal, err)
		}
		if err := s.compare(tx, was); err != nil {
			return err
		}
	}
	if !write {
		return nil
	}
	return tx.SetMeta(pathsKey, now)
}

// compare refuses a change that would make something be lost from sight.
func (s *remembering) compare(tx Tx, was Paths) error {
	if rest, ok := strings.CutPrefix(was.VolumePath, was.GraphRoot+"/"); ok {
		was.VolumePath = filepath.Join(s.paths.GraphRoot, rest)
	}
	if was.Driver != s.paths.Driver {
		if id, err := first(tx, Containers); err != nil || id != "" {
			return mismatch(err, "storage graph driver", was.Driver, s.paths.Driver, "--storage-driver",
				fmt.Sprintf("container %s is made of its layers", clip(id)))
		}
	}
	if was.VolumePath != s.paths.VolumePath {
		if id, err := first(tx, Volumes); err != nil || id != "" {
			return mismatch(err, "volume path", was.VolumePath, s.paths.VolumePath, "--volumepath", fmt.Sprintf("volume %s lies there", clip(id)))
		}
	}
	if was.RunRoot != s.paths.RunRoot && s.running != nil {
		if name, err := s.running(tx); err != nil || name != "" {
			return mismatch(err, "storage temporary directory (runroot)", was.RunRoot, s.paths.RunRoot, "--runroot", fmt.Sprintf("container %s runs with it", name))
		}
	}
	return nil
}

// mismatch says what differs in podman's words, why it matters and how to go on.
func mismatch(err error, what, was, is, flag, because string) error {
	if err != nil {
		return err
	}
	return cove.E("", "", cove.Invalid, fmt.Errorf("database %s %q does not match our %s %q: database configuration mismatch: %s: use %s %s",
		what, was, what, is, because, flag, was))
}

// first gives the first ID of a bucket; "" when it is empty.
func first(tx Tx, b Bucket) (id string, err error) {
	stop := errors.New("stop")
	err = tx.List(b, func(one string, _ []byte) error {
		id = one
		return stop
	})
	if errors.Is(err, stop) {
		err = nil
	}
	return id, err
}

// Unusable is a store whose every transaction fails with err.
func Unusable(err error) Store { return unusable{err} }

type unusable struct{ err error }

func (u unusable) View(func(Tx) error) error   { return u.err }
func (u unusable) Update(func(Tx) error) error { return u.err }
func (u unusable) Path() string                { return "" }
func (u unusable) Close() error                { return nil }
