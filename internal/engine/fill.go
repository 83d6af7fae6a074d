package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/state"
)

// A volume is filled in two steps, so that a command killed in either loses
// nothing: the image's files are copied into stagedName, which then becomes
// readyName; from there they are moved into the volume one by one. The
// volume's own directory stays the same, for another container may use it.
const (
	stagedName = "_data.new"
	readyName  = "_data.ready"
)

// fillVolumes makes sure that the directories of all the container's volumes
// exist, and fills those that wait for it with what the image has at their
// places. Volumes that wait for nothing cost one snapshot of the store
// altogether, those that were filled one transaction. The caller holds the
// container's lock.
func (e *Engine) fillVolumes(ctx context.Context, c *cove.Container) error {
	mounts, records, err := e.volumesOf(c)
	if err != nil {
		return err
	}
	f := filling{e: e, c: c, held: map[string]lock.Held{}}
	// Several locks of volumes are taken in the order of their names.
	order := make([]int, len(mounts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return strings.Compare(mounts[i].Source, mounts[j].Source) })
	for _, i := range order {
		if err = f.fill(ctx, mounts[i], &records[i]); err != nil {
			break
		}
	}
	return errors.Join(err, f.end())
}

// filling is the work of fillVolumes.
type filling struct {
	e    *Engine
	c    *cove.Container
	held map[string]lock.Held // by volume; until what was done is recorded
	done []string             // volumes that wait for nothing any more
}

// end records what was done and releases the locks.
func (f *filling) end() (err error) {
	if len(f.done) > 0 {
		err = f.e.update(func(tx state.Tx) error {
			for _, name := range f.done {
				var now cove.Volume
				if err := tx.Get(state.Volumes, name, &now); err != nil {
					return err
				}
				now.NeedsCopyUp = false
				if err := tx.Put(state.Volumes, name, &now); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, l := range f.held {
		err = errors.Join(err, l.Unlock())
	}
	return err
}

// volumesOf gives a container's mounts of volumes, each with the volume's record.
func (e *Engine) volumesOf(c *cove.Container) (mounts []cove.Mount, records []cove.Volume, err error) {
	for _, m := range c.Mounts {
		if m.Type == "volume" {
			mounts = append(mounts, m)
		}
	}
	if len(mounts) == 0 {
		return nil, nil, nil
	}
	records = make([]cove.Volume, len(mounts))
	err = e.store.View(func(tx state.Tx) error {
		for i, m := range mounts {
			records[i] = cove.Volume{}
			if err := tx.Get(state.Volumes, m.Source, &records[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return mounts, records, err
}

// fill fills the volume unless its record, which may be old, says that this has
// been done.
func (f *filling) fill(ctx context.Context, m cove.Mount, v *cove.Volume) error {
	e, name := f.e, v.Name
	if !v.NeedsCopyUp || m.SubPath != "" || slices.Contains(m.Options, "nocopy") {
		return e.makeVolumeDir(v)
	}
	if slices.Contains(f.done, name) {
		return nil
	}
	if f.held[name] == nil {
		l, err := e.lockUnder(ctx, lock.Volume, name)
		if err != nil {
			return err
		}
		f.held[name] = l
	}
	err := e.store.View(func(tx state.Tx) error {
		*v = cove.Volume{}
		return tx.Get(state.Volumes, name, v)
	})
	if err != nil {
		return err
	}
	if v.Intent == cove.BeingRemoved {
		return cove.E("use volume", name, cove.InUse, errors.New("it is being removed"))
	}
	if err := e.makeVolumeDir(v); err != nil || !v.NeedsCopyUp {
		return err
	}
	done, err := e.fillLocked(f.c, m, v)
	if err != nil {
		return cove.E("fill volume", name, fileKind(err), err)
	}
	if done {
		f.done = append(f.done, name)
	}
	return nil
}

// fillLocked fills the volume and tells whether that was the last time: it
// stays open for a later container when this one's image has nothing there,
// or when somebody else has put something into it.
func (e *Engine) fillLocked(c *cove.Container, m cove.Mount, v *cove.Volume) (bool, error) {
	dir, err := unix.Open(filepath.Dir(e.volumeData(v.Name)), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(dir)
	data, err := rootfs.OpenEntry(dir, filepath.Base(e.volumeData(v.Name)))
	if err != nil {
		return false, err
	}
	defer data.Close()
	ready, err := rootfs.OpenEntry(dir, readyName)
	if errors.Is(err, os.ErrNotExist) {
		if full, err := anything(&data); err != nil || full {
			return false, err
		}
		copied, err := e.stage(c, m, v, dir, &data)
		if err != nil || !copied {
			return false, err
		}
		ready, err = rootfs.OpenEntry(dir, readyName)
		if err != nil {
			return false, err
		}
	} else if err != nil {
		return false, err
	}
	defer ready.Close()
	if err := deliver(dir, &ready, &data); err != nil {
		return false, err
	}
	if v.Anonymous {
		return true, nil
	}
	// The record will say for good that all of it is here.
	f, err := data.Open()
	if err != nil {
		return false, err
	}
	defer f.Close()
	return true, f.Sync()
}

// anything tells whether the directory has an entry.
func anything(d *rootfs.Entry) (bool, error) {
	f, err := d.Open()
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, _ := f.Readdirnames(1)
	return len(names) > 0, nil
}

// stage copies what the image has at the mount's place to readyName and tells
// whether it has a directory there. A volume whose place is not in the image
// is the container's user's.
func (e *Engine) stage(c *cove.Container, m cove.Mount, v *cove.Volume, dir int, data *rootfs.Entry) (bool, error) {
	source := e.imageRoot(c)
	user := containerUser(c)
	fresh := user != "" && user != "root" && user != "0" &&
		int(data.Stat.Uid) == v.UID && int(data.Stat.Gid) == v.GID && v.UID == 0 && v.GID == 0
	if !fresh && surelyAbsent(&source, m.Destination) {
		return false, nil
	}
	root, err := rootfs.Open(source)
	if err != nil {
		return false, err
	}
	defer unix.Close(root)
	from, err := rootfs.OpenIn(root, m.Destination, unix.O_PATH|unix.O_DIRECTORY)
	switch {
	case err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP:
		if !fresh {
			return false, nil
		}
		uid, gid, err := userOf(root, user)
		if err != nil {
			return false, nil // the start will say so
		}
		return false, unix.Fchownat(data.FD, "", uid, gid, unix.AT_EMPTY_PATH)
	case err != nil:
		return false, &os.PathError{Op: "open", Path: m.Destination, Err: err}
	}
	defer unix.Close(from)
	if err := rootfs.RemoveAll(dir, stagedName); err != nil {
		return false, err
	}
	if err := unix.Mkdirat(dir, stagedName, 0o700); err != nil {
		return false, &os.PathError{Op: "mkdir", Path: stagedName, Err: err}
	}
	staged, err := rootfs.OpenEntry(dir, stagedName)
	if err != nil {
		return false, err
	}
	defer staged.Close()
	if label, err := e.volumeLabel(); err != nil {
		return false, err
	} else if label != "" { // which what is made in it inherits
		if err := rootfs.Relabel(staged.FD, label); err != nil {
			return false, err
		}
	}
	if err := rootfs.CopyTree(from, staged.FD); err != nil {
		return false, errors.Join(err, rootfs.RemoveAll(dir, stagedName))
	}
	was, err := rootfs.EntryOf(from)
	if err != nil {
		return false, err
	}
	a, err := was.Attributes()
	if err != nil {
		return false, err
	}
	if v.UID != 0 || v.GID != 0 { // asked for when it was made
		a.UID, a.GID = v.UID, v.GID
	}
	if err := staged.Set(a); err != nil {
		return false, err
	}
	if !v.Anonymous {
		// A power loss must not leave the name without the content.
		if err := unix.Syncfs(dir); err != nil {
			return false, os.NewSyscallError("syncfs", err)
		}
	}
	if err := unix.Renameat(dir, stagedName, dir, readyName); err != nil {
		return false, &os.PathError{Op: "rename", Path: stagedName, Err: err}
	}
	return true, nil
}

// deliver moves everything from ready into the volume, and gives it ready's
// owner, mode and time. What is there already was put there by a running
// container meanwhile and stays.
func deliver(dir int, ready, data *rootfs.Entry) error {
	names, err := ready.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		err := unix.Renameat2(ready.FD, name, data.FD, name, unix.RENAME_NOREPLACE)
		if err != nil && err != unix.EEXIST {
			return &os.PathError{Op: "rename", Path: name, Err: err}
		}
	}
	a, err := ready.Attributes()
	if err != nil {
		return err
	}
	if err := data.Set(a); err != nil {
		return err
	}
	return rootfs.RemoveAll(dir, readyName)
}

// imageRoot is what the container's root was before it wrote anything.
func (e *Engine) imageRoot(c *cove.Container) rootfs.Source {
	source := rootfs.Source{Dir: c.Spec.Rootfs, Target: e.conf.Merged(), ReadOnly: true}
	if o := e.overlay(c); o != nil {
		image := *o
		image.Upper, image.Work = "", ""
		source.Overlay = &image
	}
	return source
}

// surelyAbsent tells, without mounting, that none of the layers has the path
// nor a link on the way to it.
func surelyAbsent(s *rootfs.Source, name string) bool {
	o := s.Overlay
	if o == nil {
		o = &plan.Overlay{Lower: []string{s.Dir}}
	}
	for _, l := range o.Lower {
		if !filepath.IsAbs(l) {
			l = filepath.Join(o.Base, l)
		}
		fd, err := unix.Open(l, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return false
		}
		_, err = statBeneath(fd, name)
		_ = unix.Close(fd)
		if err != unix.ENOENT {
			return false
		}
	}
	return true
}

// statBeneath looks at name below dir through no link at all.
func statBeneath(dir int, name string) (st unix.Stat_t, err error) {
	name = strings.TrimLeft(name, "/")
	if name == "" {
		name = "."
	}
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_IN_ROOT})
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st)
}

// userDatabaseLimit is how much of a root's passwd and group files is read:
// they are the image's, and may be anything.
const userDatabaseLimit = 10 << 20

// imageUser turns user[:group] into numbers by the files of the container's image.
func (e *Engine) imageUser(c *cove.Container, user string) (uid, gid int, err error) {
	root, err := rootfs.Open(e.imageRoot(c))
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(root)
	return userOf(root, user)
}

// userOf turns user[:group], names or numbers, into numbers by the files of
// the root, passwd(5) and group(5); "" is root. A number needs no entry.
func userOf(root int, user string) (uid, gid int, err error) {
	name, group, hasGroup := strings.Cut(user, ":")
	number := func(s string) (int, bool) {
		n, err := strconv.ParseUint(s, 10, 31)
		return int(n), err == nil
	}
	entry := func(file, key string, byName bool) []string {
		data, err := rootfs.ReadFile(root, file, userDatabaseLimit)
		if err != nil {
			return nil
		}
		at := 2
		if byName {
			at = 0
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Split(strings.TrimSpace(line), ":"); len(f) >= 4 && f[at] == key {
				return f
			}
		}
		return nil
	}
	if name != "" {
		var ok bool
		fields := entry("/etc/passwd", name, true)
		if fields != nil {
			uid, ok = number(fields[2])
		} else if uid, ok = number(name); ok {
			fields = entry("/etc/passwd", name, false)
		}
		if !ok {
			return 0, 0, cove.E("", "", cove.Invalid, fmt.Errorf("unable to find user %.80s: no matching entries in passwd file", name))
		}
		if fields != nil {
			gid, _ = number(fields[3])
		}
	}
	if hasGroup {
		fields := entry("/etc/group", group, true)
		if fields != nil {
			group = fields[2]
		}
		n, ok := number(group)
		if !ok {
			return 0, 0, cove.E("", "", cove.Invalid, fmt.Errorf("unable to find group %.80s: no matching entries in group file", group))
		}
		gid = n
	}
	return uid, gid, nil
}
