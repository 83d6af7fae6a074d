// Package runtime is an OCI runtime over cove's own init: the verbs of
// cmd/cove-runtime, one file each.
//
// # What is known of a container
//
// A directory ROOT/ID holds the record (state.json), the socket on which start
// comes to init, and the file waiting, on which init holds a lock until it
// executes the command. The status is derived from them and from the kernel:
//
//	creating  the record is there and not complete
//	created   init lives and holds the lock
//	running   init lives without it; paused when its cgroup is frozen
//	stopped   init is gone, or a zombie
//
// The record comes before what could outlive a killed create: cgroups are in it
// before they are made. Init by itself ends with the create that made it until
// that one says that all is recorded. So whatever is killed, delete finds
// everything.
package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/safepath"
)

// Runtime is a root directory with what concerns every verb.
type Runtime struct {
	Root    string       // absolute
	Systemd bool         // cgroupsPath is "slice:prefix:name", a scope of systemd's
	Warn    func(string) // told what is not an error
}

var validID = regexp.MustCompile(`^[\w+.-]+$`)

func checkID(id string) error {
	if !validID.MatchString(id) || id == "." || id == ".." || len(id) > 1024 {
		return cove.E("", "", cove.Invalid, errors.New("invalid container ID format: "+id))
	}
	return nil
}

// InitName is argv[0] of init and exec, whose argv[1] is their socket.
const InitName = "cove-runtime-init"

func (r *Runtime) dir(id string) string { return filepath.Join(r.Root, id) }

// programs is where compiled seccomp profiles are kept; no ID looks so.
func (r *Runtime) programs() string { return filepath.Join(r.Root, "@seccomp") }

// claim makes a new container's directory and locks it.
func (r *Runtime) claim(id string) (lock int, err error) {
	if err := os.MkdirAll(r.Root, 0o700); err != nil {
		return -1, cove.E("create container", id, cove.Internal, err)
	}
	if err := r.ours(id); err != nil {
		return -1, err
	}
	for {
		switch err := unix.Mkdir(r.dir(id), 0o700); err {
		case nil:
		case unix.EEXIST:
			return -1, exists(id)
		default:
			return -1, cove.E("create container", id, cove.Internal, &os.PathError{Op: "mkdir", Path: r.dir(id), Err: err})
		}
		// Before we have the lock a delete may take the directory away again, and
		// another create be the first to lock it.
		lock, err := r.lock(id)
		if cove.Is(err, cove.NotFound) {
			continue
		}
		if err == nil && unix.Faccessat(lock, "state.json", unix.F_OK, 0) == nil {
			_ = unix.Close(lock)
			return -1, exists(id)
		}
		return lock, err
	}
}

func exists(id string) error {
	return cove.E("create container", id, cove.Exists, errors.New("container with given ID already exists"))
}

// ours refuses a container whose record another user could have written: it tells
// which processes to signal, which cgroups to remove and which hooks to run.
func (r *Runtime) ours(id string) error {
	if err := safepath.Check(r.dir(id)); err != nil {
		return cove.E("use container", id, cove.Denied, err)
	}
	return nil
}

// lock keeps other verbs that change the container away until the descriptor
// is closed.
func (r *Runtime) lock(id string) (int, error) {
	for {
		fd, err := unix.Open(r.dir(id), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			return -1, missing(id)
		}
		if err != nil {
			return -1, cove.E("lock container", id, cove.Internal, err)
		}
		for {
			if err = unix.Flock(fd, unix.LOCK_EX); err != unix.EINTR {
				break
			}
		}
		// Who had the lock may have removed the container, and there may be
		// another one of its name by now.
		if err == nil && sameFile(fd, r.dir(id)) {
			return fd, nil
		}
		_ = unix.Close(fd)
		if err != nil {
			return -1, cove.E("lock container", id, cove.Internal, err)
		}
	}
}

// openLocked finds a container that nobody changes until the lock is closed.
func (r *Runtime) openLocked(id string) (c *Container, lock int, err error) {
	if err := checkID(id); err != nil {
		return nil, -1, err
	}
	if err := r.ours(id); err != nil {
		return nil, -1, err
	}
	if lock, err = r.lock(id); err != nil {
		return nil, -1, err
	}
	if c, err = r.read(id); err != nil {
		_ = unix.Close(lock)
		return nil, -1, err
	}
	return c, lock, nil
}

func missing(id string) error {
	return cove.E("", "", cove.NotFound, errors.New("container does not exist: "+id))
}

func (r *Runtime) warn(text string) {
	if r.Warn != nil {
		r.Warn(text)
	}
}
