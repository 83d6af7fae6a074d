// Package rootfs gives access to a container's root file system by a
// descriptor, without a mount that anybody else could see: what has to be
// mounted is mounted in a mount namespace that ends at once, and lives on as
// a tree that only the descriptor holds. Closing the descriptor unmounts it.
//
// What lies in a root is hostile: links that lead out of it, pipes that never
// answer, devices, and names that change while they are looked at. So every
// look-up goes through openat2(2) inside the root, and what was looked at is
// the file that is then used.
//
// It is imported by the monitor's program: standard library and
// golang.org/x/sys only.
package rootfs

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ownthread"
	"github.com/cove-engine/cove/internal/plan"
)

// Source says what a root is made of.
type Source struct {
	// Overlay is made when it is not nil, else Dir is the root.
	Overlay *plan.Overlay
	Dir     string
	// Target is an existing directory that is mounted upon, seen by nobody.
	Target string
	// ReadOnly says that the caller will only read. The writable layer is
	// then not mounted for writing, so a container that starts meanwhile
	// does no harm.
	ReadOnly bool
	// Binds are put into the root in their order.
	Binds []Bind
}

// Bind is a directory or file of the host's shown in a root.
type Bind struct {
	Source   string
	SubPath  string // below Source, which it cannot leave
	Target   string // inside the root; made when it is missing
	ReadOnly bool
}

// Open makes the root of a container that does not run and gives its
// descriptor, opened O_PATH, for the caller to close. Two roots of one
// writable layer must not exist at a time unless both are ReadOnly: the
// caller holds the container's lock. It needs CAP_SYS_ADMIN unless there is
// nothing to mount.
func Open(s Source) (int, error) {
	if dir, ok := s.plain(); ok {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		return fd, nil
	}
	return ownthread.Run(func() (int, error) {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return -1, os.NewSyscallError("unshare", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			return -1, &os.PathError{Op: "make private", Path: "/", Err: err}
		}
		return s.mount()
	})
}

// plain gives the directory that is the root already.
func (s *Source) plain() (string, bool) {
	o := s.Overlay
	switch {
	case len(s.Binds) > 0:
		return "", false
	case o == nil:
		return s.Dir, true
	case s.ReadOnly && o.Upper == "" && len(o.Lower) == 1:
		return absolute(o.Base, o.Lower[0]), true
	}
	return "", false
}

func absolute(base, dir string) string {
	if filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(base, dir)
}

// mount does the work of Open in the calling thread's own mount namespace.
func (s *Source) mount() (int, error) {
	if err := s.mountRoot(); err != nil {
		return -1, err
	}
	root, err := unix.Open(s.Target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: s.Target, Err: err}
	}
	defer unix.Close(root)
	for i := range s.Binds {
		if err := s.Binds[i].mount(root); err != nil {
			return -1, &os.PathError{Op: "mount", Path: s.Binds[i].Target, Err: err}
		}
	}
	tree, err := unix.OpenTree(root, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return -1, os.NewSyscallError("open_tree", err)
	}
	// From here on only the descriptor holds it: the last unmount happens
	// when that is closed, not when this thread has got round to dying.
	if err := unix.Unmount(s.Target, unix.MNT_DETACH); err != nil {
		_ = unix.Close(tree)
		return -1, &os.PathError{Op: "unmount", Path: s.Target, Err: err}
	}
	return tree, nil
}

// mountRoot puts the root, without its binds, on the target.
func (s *Source) mountRoot() error {
	o := plan.Overlay{}
	if s.Overlay != nil {
		o = *s.Overlay
		// What is needed for one copy is to be synced as usual; and a layer
		// that was mounted volatile refuses another mount.
		o.Options = nil
		for _, opt := range s.Overlay.Options {
			if opt != "volatile" {
				o.Options = append(o.Options, opt)
			}
		}
	} else if !s.ReadOnly {
		return bind(s.Dir, s.Target)
	} else {
		o.Base, o.Lower = "/", []string{s.Dir}
	}
	if s.ReadOnly {
		if o.Upper != "" {
			o.Lower = append([]string{o.Upper}, o.Lower...)
			o.Upper, o.Work = "", ""
		}
		// The places of binds may have to be made: in memory.
		if len(s.Binds) > 0 {
			if err := unix.Mount("tmpfs", s.Target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700"); err != nil {
				return &os.PathError{Op: "mount tmpfs on", Path: s.Target, Err: err}
			}
			o.Upper, o.Work = filepath.Join(s.Target, "upper"), filepath.Join(s.Target, "work")
			for _, dir := range []string{o.Upper, o.Work} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					return err
				}
			}
		} else if len(o.Lower) == 1 {
			return bind(absolute(o.Base, o.Lower[0]), s.Target)
		}
	}
	if err := MountOverlay(&o, s.Target); err != nil {
		return &os.PathError{Op: "mount overlay on", Path: s.Target, Err: err}
	}
	return nil
}

func bind(dir, target string) error {
	if err := unix.Mount(dir, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return &os.PathError{Op: "bind", Path: dir, Err: err}
	}
	return nil
}

func (b *Bind) mount(root int) error {
	from, err := unix.Open(b.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	if b.SubPath != "" {
		sub, err := OpenIn(from, b.SubPath, unix.O_PATH)
		if err != nil {
			return err
		}
		defer unix.Close(sub)
		from = sub
	}
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	tree, err := unix.OpenTree(from, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if b.ReadOnly {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return err
		}
	}
	place := MakeFile
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		place = MakeDir
	}
	to, err := place(root, b.Target)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return unix.MoveMount(tree, "", to, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}
