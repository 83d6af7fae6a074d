package cgroup

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// settle is how long Freeze and Thaw wait for the kernel: a process that
// waits for a disk cannot be frozen before it has got its answer.
const settle = 5 * time.Second

// Freeze stops every process of the cgroups and of those below them, and
// returns when all of them stand still. When that takes longer than five
// seconds it thaws them again (Unavailable). A host without a freezer, or a
// container without cgroups, is Unsupported.
func Freeze(dirs []string) error {
	err := turn(dirs, "pause", true)
	if err != nil && !cove.Is(err, cove.Unsupported) {
		if e := turn(dirs, "unpause", false); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Thaw lets the processes go on and returns when they do.
func Thaw(dirs []string) error { return turn(dirs, "unpause", false) }

// Release lets all processes of the cgroups and of those below them go on, whoever
// has frozen them: a container may have done that itself. It waits for nobody.
func Release(dirs []string) error {
	var errs []error
	for _, d := range dirs {
		errs = append(errs, walk(d, func(fd int) error {
			for file, word := range map[string]string{"cgroup.freeze": "0", "freezer.state": "THAWED"} {
				if state, err := openat(fd, file, unix.O_WRONLY); err == nil {
					_ = write(state, word)
					_ = unix.Close(state)
				}
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}

// Frozen reports whether all processes stand still, for this cgroup's sake or
// for that of one above it. Cgroups that do not exist are not frozen.
func Frozen(dirs []string) (bool, error) {
	f, ok := findFreezer(dirs)
	if !ok {
		return false, nil
	}
	frozen, err := f.frozen()
	if absent(err) == nil {
		return frozen, nil
	}
	return false, cove.E("read freezer", f.dir, kind(err), err)
}

// freezer is where processes are frozen: the hierarchy of version 1 if there
// is one, so that everybody looks at the same place.
type freezer struct {
	dir     string
	unified bool
}

func findFreezer(dirs []string) (freezer, bool) {
	// Hierarchies lie where their controllers' names say, nearly always.
	for _, d := range dirs {
		if strings.Contains(d, "/freezer/") && unix.Access(d+"/freezer.state", unix.F_OK) == nil {
			return freezer{dir: d}, true
		}
	}
	for _, unified := range []bool{false, true} {
		file := "/freezer.state"
		if unified {
			file = "/cgroup.freeze"
		}
		for _, d := range dirs {
			if unix.Access(d+file, unix.F_OK) == nil {
				return freezer{dir: d, unified: unified}, true
			}
		}
	}
	return freezer{}, false
}

func (f freezer) set(frozen bool) error {
	switch {
	case f.unified && frozen:
		return writeFile(f.dir+"/cgroup.freeze", "1")
	case f.unified:
		return writeFile(f.dir+"/cgroup.freeze", "0")
	case frozen:
		return writeFile(f.dir+"/freezer.state", "FROZEN")
	}
	return writeFile(f.dir+"/freezer.state", "THAWED")
}

// frozen reads whether all stand still; "FREEZING" is not yet.
func (f freezer) frozen() (bool, error) {
	if f.unified {
		text, err := readFile(f.dir+"/cgroup.events", 4096)
		return bytes.Contains(text, []byte("frozen 1\n")), err
	}
	text, err := readFile(f.dir+"/freezer.state", 64)
	return string(bytes.TrimSpace(text)) == "FROZEN", err
}

// turn freezes or thaws, and waits for it.
func turn(dirs []string, op string, frozen bool) error {
	f, ok := findFreezer(dirs)
	if !ok {
		return cove.E(op, "", cove.Unsupported, errors.New("there is no cgroup with a freezer"))
	}
	end := time.Now().Add(settle)
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		// Written each time: version 1 looks again, also at newcomers, only
		// when it is asked.
		if err := f.set(frozen); err != nil {
			return cove.E(op, f.dir, kind(err), err)
		}
		is, err := f.frozen()
		if err != nil {
			return cove.E(op, f.dir, kind(err), err)
		}
		if is == frozen {
			return nil
		}
		if time.Now().After(end) {
			return cove.E(op, f.dir, cove.Unavailable, errors.New("the processes did not follow in time"))
		}
		time.Sleep(pause)
	}
}
