package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/state"
)

// volumeData is the directory that containers see of a volume.
func (e *Engine) volumeData(name string) string {
	return filepath.Join(e.conf.Volumes(), name, "_data")
}

// ensureVolume records a volume unless there is one of that name.
func ensureVolume(tx state.Tx, v *cove.Volume) error {
	var have cove.Volume
	err := tx.Get(state.Volumes, v.Name, &have)
	if err == nil {
		*v = have
		return nil
	}
	if !cove.Is(err, cove.NotFound) {
		return err
	}
	return tx.Put(state.Volumes, v.Name, v)
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
	err := os.Mkdir(data, 0o755)
	if err == nil {
		err = os.Chmod(data, 0o755)
	}
	if err == nil {
		err = os.Chown(data, v.UID, v.GID)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return cove.E("make volume", v.Name, fileKind(err), err)
	}
	return nil
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
	for k := range v.Options {
		return v, cove.E("create volume", v.Name, cove.Unsupported, errors.New("volume option "+k+" is not supported by cove yet"))
	}
	v.Schema, v.Created, v.NeedsCopyUp = cove.Schema, time.Now(), true
	err := e.update(func(tx state.Tx) error {
		var have cove.Volume
		switch err := tx.Get(state.Volumes, v.Name, &have); {
		case err == nil && ignore:
			v = have
			return nil
		case err == nil:
			return cove.E("", "", cove.Exists, errors.New("volume with name "+v.Name+" already exists: volume already exists"))
		case !cove.Is(err, cove.NotFound):
			return err
		}
		return tx.Put(state.Volumes, v.Name, &v)
	})
	if err != nil {
		return v, err
	}
	if err := e.makeVolumeDir(&v); err != nil {
		return v, err
	}
	_ = e.events.Write(cove.Event{Name: v.Name, Status: "create", Time: time.Now(), Type: "volume"})
	return v, nil
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
			c, err := decodeContainer(raw)
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
// only Force (with the containers that use it) and Timeout count.
func (e *Engine) RemoveVolume(ctx context.Context, name string, o RemoveOptions) (string, error) {
	v, err := e.findVolume(name)
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
		err := e.Remove(ctx, id, RemoveOptions{Force: true, Timeout: o.Timeout})
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
	l, err := e.locks.Lock(ctx, lock.Volume, name)
	if err != nil {
		return err
	}
	return e.dropLocked(l, name)
}

// dropLocked is dropVolume by the holder of the volume's lock, which it
// releases.
func (e *Engine) dropLocked(l lock.Held, name string) error {
	defer l.Unlock()
	err := e.update(func(tx state.Tx) error {
		var v cove.Volume
		if err := tx.Get(state.Volumes, name, &v); err != nil {
			return err
		}
		err := tx.List(state.Containers, func(id string, raw []byte) error {
			c, err := decodeContainer(raw)
			if err == nil && usesVolume(c, name) {
				err = cove.E("", "", cove.InUse, errors.New("volume "+name+" is being used by the following container(s): "+id+": volume is being used"))
			}
			return err
		})
		if err != nil {
			return err
		}
		v.Intent = cove.BeingRemoved
		return tx.Put(state.Volumes, name, &v)
	})
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Dir(e.volumeData(name))); err != nil {
		return cove.E("remove volume", name, fileKind(err), err)
	}
	if err := e.update(func(tx state.Tx) error { return tx.Delete(state.Volumes, name) }); err != nil {
		return err
	}
	_ = os.Remove(LockPath(e.conf)(lock.Volume, name))
	_ = e.events.Write(cove.Event{Name: name, Status: "remove", Time: time.Now(), Type: "volume"})
	return nil
}

// removeAnonymous removes an anonymous volume with its last container; one
// that is still used stays.
func (e *Engine) removeAnonymous(name string) error {
	v, err := e.findVolume(name)
	if err != nil || !v.Anonymous {
		return err
	}
	// A transaction of whoever holds the volume's lock may have brought us
	// here: then that is who removes it, or it is in use.
	l, err := e.locks.TryLock(context.Background(), lock.Volume, name)
	if err == nil {
		err = e.dropLocked(l, name)
	}
	if cove.Is(err, cove.InUse) || cove.Is(err, cove.NotFound) {
		return nil
	}
	return err
}
