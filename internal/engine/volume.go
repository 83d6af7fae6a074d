package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/state"
)

// volumeData is the directory that containers see of a volume.
func (e *Engine) volumeData(name string) string {
	return filepath.Join(e.conf.Volume(name), "_data")
}

// ensureVolume records a volume unless there is one of that name, and tells
// whether it has.
func ensureVolume(tx state.Tx, v *cove.Volume) (made bool, err error) {
	var have cove.Volume
	err = tx.Get(state.Volumes, v.Name, &have)
	if err == nil && have.Intent == cove.BeingRemoved {
		return false, goingVolume(v.Name)
	}
	if err == nil {
		*v = have
		return false, nil
	}
	if !cove.Is(err, cove.NotFound) {
		return false, err
	}
	return true, tx.Put(state.Volumes, v.Name, v)
}

// goingVolume is the error that a volume of this name is half removed, and that
// whoever wants to make it has to finish that first (afterGoing).
type goingVolume string

func (v goingVolume) Error() string { return "volume " + string(v) + " is being removed" }

// afterGoing runs a transaction, and once more when it has met a volume whose
// removal was cut short, after finishing that.
func (e *Engine) afterGoing(ctx context.Context, transaction func() error) error {
	err := transaction()
	var going goingVolume
	for range 8 { // as many as one container may bring
		if !errors.As(err, &going) {
			break
		}
		if derr := e.finishDrop(ctx, string(going)); derr != nil && !cove.Is(derr, cove.NotFound) {
			return errors.Join(err, derr)
		}
		err = transaction()
	}
	return err
}

// makeVolumeDir makes a recorded volume's directory. It is called again by
// every start, so a command killed in between is healed.
func (e *Engine) makeVolumeDir(v *cove.Volume) error {
	data := e.volumeData(v.Name)
	if _, err := os.Lstat(data); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(data), 0o700); err != nil {
		return cove.E("make volume", v.Name, fileKind(err), err)
	}
	// Ordinary users of the container pass through here, whatever the umask.
	// Under its name it appears with its mode and owner.
	unfinished := filepath.Join(filepath.Dir(data), "unfinished")
	err := os.Mkdir(unfinished, 0o755)
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	if err == nil {
		err = os.Chmod(unfinished, 0o755)
	}
	if err == nil {
		err = os.Chown(unfinished, v.UID, v.GID)
	}
	if err == nil {
		var label string
		if label, err = e.volumeLabel(); err == nil {
			err = labelFile(unfinished, label)
		}
	}
	if err == nil {
		err = os.Rename(unfinished, data)
	}
	if _, serr := os.Lstat(data); serr == nil {
		return nil // by somebody else, if not by us
	}
	if err != nil {
		return cove.E("make volume", v.Name, fileKind(err), err)
	}
	return nil
}

// makeVolumeDirs makes those of a recorded container's volumes, which nobody can
// remove before it.
func (e *Engine) makeVolumeDirs(c *cove.Container) error {
	_, volumes, err := e.volumesOf(c)
	if err != nil {
		return err
	}
	for i := range volumes {
		if err := e.makeVolumeDir(&volumes[i]); err != nil {
			return err
		}
	}
	return nil
}

// makeRecorded makes the directory of a volume that has been recorded, under its
// lock: somebody may be removing it by now, and what is made after that would
// be nobody's. A volume that is gone was there for a moment, which is no error.
func (e *Engine) makeRecorded(ctx context.Context, name string) error {
	if exists(e.volumeData(name)) {
		return nil
	}
	l, err := e.locks.Lock(ctx, lock.Volume, name)
	if err != nil {
		return err
	}
	defer l.Unlock()
	var v cove.Volume
	err = e.store.View(func(tx state.Tx) error { return tx.Get(state.Volumes, name, &v) })
	switch {
	case cove.Is(err, cove.NotFound):
		return e.locks.Forget(lock.Volume, name) // it was made by asking for it
	case err != nil || v.Intent == cove.BeingRemoved:
		return err
	}
	return e.makeVolumeDir(&v)
}

// CreateVolume makes a named volume; "" names it by a random ID. ignore makes
// an existing one no error.
func (e *Engine) CreateVolume(ctx context.Context, v cove.Volume, ignore bool) (cove.Volume, error) {
	if v.Name == "" {
		v.Name, v.Anonymous = newID(), true
	} else if err := validName("volume", v.Name); err != nil {
		return v, err
	}
	if v.Driver == "" {
		v.Driver = "local"
	}
	if v.Driver != "local" {
		return v, cove.E("create volume", v.Name, cove.Unsupported, errors.New("volume driver "+v.Driver+" is not supported by cove yet"))
	}
	for _, k := range slices.Sorted(maps.Keys(v.Options)) {
		return v, cove.E("create volume", v.Name, cove.Unsupported, errors.New("volume option "+k+" is not supported by cove yet"))
	}
	v.Schema, v.Created, v.NeedsCopyUp = cove.Schema, time.Now(), true
	var old *cove.Volume // the one that has the name
	transaction := func(tx state.Tx) error {
		var have cove.Volume
		switch err := tx.Get(state.Volumes, v.Name, &have); {
		case err == nil && have.Intent == cove.BeingRemoved:
			return goingVolume(v.Name)
		case err == nil && ignore:
			v, old = have, &have
			return nil
		case err == nil:
			old = &have
			return cove.E("", "", cove.Exists, errors.New("volume with name "+v.Name+" already exists: volume already exists"))
		case !cove.Is(err, cove.NotFound):
			return err
		}
		return tx.Put(state.Volumes, v.Name, &v)
	}
	err := e.afterGoing(ctx, func() error { return e.update(transaction) })
	if old != nil {
		// Whoever made it may have been killed before its directory was.
		return v, errors.Join(err, e.makeRecorded(ctx, v.Name))
	}
	if err != nil {
		return v, err
	}
	if err := e.makeRecorded(ctx, v.Name); err != nil {
		return v, errors.Join(err, e.unmakeVolume(v.Name))
	}
	_ = e.events.Write(cove.Event{Name: v.Name, Status: "create", Time: time.Now(), Type: "volume"})
	return v, nil
}

// unmakeVolume takes the record of a volume back whose directory could not be
// made. One that somebody has taken up by now stays.
func (e *Engine) unmakeVolume(name string) error {
	if exists(e.volumeData(name)) {
		return nil
	}
	// Whoever has called the command off wants this all the same.
	l, err := e.lockToDrop(context.Background(), name, e.lockUnder)
	if err == nil {
		defer l.Unlock()
		err = e.dropLocked("", name)
	}
	if cove.Is(err, cove.InUse) || cove.Is(err, cove.NotFound) {
		return nil
	}
	return err
}

// findVolume finds a volume by name or by an unambiguous beginning of it.
func (e *Engine) findVolume(name string) (cove.Volume, error) {
	var v cove.Volume
	err := e.store.View(func(tx state.Tx) error {
		id, err := tx.Find(state.Volumes, name)
		if err != nil {
			return err
		}
		return tx.Get(state.Volumes, id, &v)
	})
	return v, err
}

// VolumeUsers lists the IDs of the containers that have the volume.
func (e *Engine) VolumeUsers(name string) ([]string, error) {
	var users []string
	err := e.store.View(func(tx state.Tx) error {
		users = nil
		return tx.List(state.Containers, func(id string, raw []byte) error {
			c, err := decodeContainer(id, raw)
			if err != nil {
				return err
			}
			if usesVolume(c, name) && !e.gone(id) {
				users = append(users, id)
			}
			return nil
		})
	})
	return users, err
}

func usesVolume(c *cove.Container, name string) bool {
	return slices.ContainsFunc(c.Mounts, func(m cove.Mount) bool { return m.Type == "volume" && m.Source == name })
}

// RemoveVolume removes a volume with its content and gives its full name. Of o
// only Force (with the containers that use it), Timeout and Warn count.
func (e *Engine) RemoveVolume(ctx context.Context, name string, o RemoveOptions) (string, error) {
	v, err := e.findVolume(name)
	if errors.Is(err, state.ErrDamaged) && o.Force {
		if v.Name, err = e.renewVolume(ctx, name); err == nil {
			return e.RemoveVolume(ctx, v.Name, o)
		}
	}
	if err != nil {
		return "", err
	}
	users, err := e.VolumeUsers(v.Name)
	if err != nil {
		return "", err
	}
	if len(users) > 0 && !o.Force {
		return "", cove.E("", "", cove.InUse, errors.New("volume "+v.Name+" is being used by the following container(s): "+strings.Join(users, ", ")+": volume is being used"))
	}
	for _, id := range users {
		err := e.Remove(ctx, id, RemoveOptions{Force: true, Timeout: o.Timeout, Warn: o.Warn})
		if err != nil && !cove.Is(err, cove.NotFound) {
			return "", err
		}
	}
	err = e.dropVolume(ctx, v.Name)
	if len(users) > 0 && cove.Is(err, cove.NotFound) {
		err = nil // an anonymous one goes with its container
	}
	return v.Name, err
}

// dropVolume removes a volume that no container uses: first it is marked, so
// that nobody takes it up again, then its content goes, last its record.
func (e *Engine) dropVolume(ctx context.Context, name string) error {
	l, err := e.lockToDrop(ctx, name, e.locks.Lock)
	if err != nil {
		return err
	}
	defer l.Unlock()
	return e.dropLocked("", name)
}

// finishDrop removes a volume whose removal was cut short. One that has been
// made anew since that was seen stays.
func (e *Engine) finishDrop(ctx context.Context, name string) error {
	l, err := e.lockToDrop(ctx, name, e.locks.Lock)
	if err != nil {
		return err
	}
	defer l.Unlock()
	var v cove.Volume
	err = e.store.View(func(tx state.Tx) error { return tx.Get(state.Volumes, name, &v) })
	if err == nil && v.Intent != cove.BeingRemoved {
		return nil
	}
	return e.dropLocked("", name)
}

// takeLock is one of the ways to take a lock.
type takeLock func(context.Context, lock.Kind, string) (lock.Held, error)

// lockToDrop takes the lock of a volume that is to go. Where there is no room
// for one that is not there, which nobody can hold then, it goes without: a
// removal makes room.
func (e *Engine) lockToDrop(ctx context.Context, name string, take takeLock) (lock.Held, error) {
	l, err := take(ctx, lock.Volume, name)
	if err == nil || cove.Is(err, cove.InUse) || ctx.Err() != nil {
		return l, err
	}
	known, kerr := e.locks.TryKnown(ctx, lock.Volume, name)
	switch {
	case kerr == nil:
		return known, nil
	case cove.Is(kerr, cove.NoFile):
		return noLock{}, nil
	}
	return nil, err
}

// noLock is held in place of a lock that could not be made.
type noLock struct{}

func (noLock) Unlock() error { return nil }

// volumeUsers gives the containers, other than the one excepted, that use volumes: one
// by the name of each volume that has any. Of a damaged record nobody can tell. It reads
// all records, so it is asked about all volumes at once.
func (e *Engine) volumeUsers(tx state.Tx, names []string, except string) (map[string]string, error) {
	const searched = 8 // of more names a record is sooner decoded than searched for each
	users := map[string]string{}
	mentioned := func(raw []byte) bool {
		return len(names) > searched || slices.ContainsFunc(names, func(name string) bool { return bytes.Contains(raw, []byte(name)) })
	}
	err := tx.List(state.Containers, func(id string, raw []byte) error {
		if id == except || !mentioned(raw) && json.Valid(raw) {
			return nil // most: decoding all would take long
		}
		c, err := decodeContainer(id, raw)
		if err != nil || e.gone(id) {
			return err
		}
		for _, name := range volumesOf(c) {
			if slices.Contains(names, name) {
				users[name] = id
			}
		}
		return nil
	})
	return users, err
}

// dropLocked removes volumes whose locks the caller holds. The container owner,
// which is being removed, does not count as a user. With an error of kind InUse or
// NotFound all but those that it names are gone.
func (e *Engine) dropLocked(owner string, names ...string) error {
	var going []string
	var kept []error
	mark := func(tx state.Tx, name, user string) error {
		var v cove.Volume
		if err := tx.Get(state.Volumes, name, &v); err != nil {
			if cove.Is(err, cove.NotFound) {
				_ = e.locks.Forget(lock.Volume, name) // it was made by asking for it
			}
			return err
		}
		if user != "" {
			return cove.E("", "", cove.InUse, errors.New("volume "+name+" is being used by the following container(s): "+user+": volume is being used"))
		}
		v.Intent = cove.BeingRemoved
		return tx.Put(state.Volumes, name, &v)
	}
	// Not by update: that may be what has brought us here.
	err := e.store.Update(func(tx state.Tx) error {
		going, kept = nil, nil // it may run more than once
		users, err := e.volumeUsers(tx, names, owner)
		if err != nil {
			return err
		}
		for _, name := range names {
			err := mark(tx, name, users[name])
			switch {
			case err == nil:
				going = append(going, name)
			case cove.Is(err, cove.InUse), cove.Is(err, cove.NotFound):
				kept = append(kept, err)
			default:
				return err
			}
		}
		if len(going) == 0 {
			return errors.Join(kept...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range going {
		if err := rootfs.RemoveTree(e.conf.Volume(name)); err != nil {
			return cove.E("remove volume", name, fileKind(err), err)
		}
	}
	// What is in a volume is removed only by who was asked to: it must not be
	// there again, without its record, when the power goes.
	// (One, or a container's anonymous ones: they are in one directory.)
	if err := syncDir(filepath.Dir(e.conf.Volume(going[0]))); err != nil {
		return err
	}
	if err := e.store.Update(func(tx state.Tx) error {
		for _, name := range going {
			// Before the record, so that there is never a lock file that nobody
			// knows of. Whoever makes a new one finds the intent if we are
			// killed here, and else waits for this transaction.
			if err := e.locks.Forget(lock.Volume, name); err != nil {
				return err
			}
			if err := e.noteRemoved(tx, lock.Volume, name); err != nil {
				return err
			}
			if err := tx.Delete(state.Volumes, name); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, name := range going {
		_ = e.events.Write(cove.Event{Name: name, Status: "remove", Time: time.Now(), Type: "volume"})
	}
	return errors.Join(kept...)
}

// removeAnonymous removes the anonymous volumes of a container that is being
// removed; those that others use stay. take takes a volume's lock.
func (e *Engine) removeAnonymous(c *cove.Container, take takeLock) error {
	var names []string
	for _, m := range c.Mounts {
		if m.Type == "volume" && m.Anonymous {
			names = append(names, m.Source)
		}
	}
	slices.Sort(names) // the order in which several are locked
	var locked []string
	var errs []error
	for _, name := range names {
		l, err := e.lockToDrop(context.Background(), name, take)
		if err == nil {
			defer l.Unlock()
			locked = append(locked, name)
		} else if !cove.Is(err, cove.InUse) {
			errs = append(errs, err)
		}
	}
	if len(locked) > 0 {
		if err := e.dropLocked(c.ID, locked...); !cove.Is(err, cove.InUse) && !cove.Is(err, cove.NotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
