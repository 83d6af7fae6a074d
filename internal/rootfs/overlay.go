package rootfs

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/plan"
)

// MountOverlay mounts o on the directory target. It changes the working
// directory to o.Base, so the calling thread must be the only one or have
// unshared CLONE_FS.
func MountOverlay(o *plan.Overlay, target string) (err error) {
	// containers/storage has a bind mount of its directory on itself while
	// one of its programs works. A layer that was looked up below it just
	// before it goes is in no mount namespace: EINVAL.
	for range 3 {
		if err = mountOverlay(o, target); !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	return err
}

func mountOverlay(o *plan.Overlay, target string) error {
	// Relative lower directories keep the options short.
	if err := unix.Chdir(o.Base); err != nil {
		return err
	}
	// What overlay's option parser would take apart.
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`, `:`, `\:`)
	lower := make([]string, len(o.Lower))
	for i, l := range o.Lower {
		lower[i] = escape.Replace(l)
	}
	options := "lowerdir=" + strings.Join(lower, ":")
	if o.Upper != "" {
		options += ",upperdir=" + escape.Replace(o.Upper) + ",workdir=" + escape.Replace(o.Work)
	}
	for _, opt := range o.Options {
		options += "," + opt
	}
	if o.Context != "" {
		options += `,context="` + o.Context + `"` // it has commas
	}
	// mount(2) takes one page of options.
	if len(options) < unix.Getpagesize() {
		return unix.Mount("overlay", target, "overlay", o.Flags, options)
	}
	return mountLongOverlay(o, target)
}

// mountLongOverlay names one lower directory after the other; "lowerdir+" is
// known since Linux 6.8, see Documentation/filesystems/overlayfs.rst.
func mountLongOverlay(o *plan.Overlay, target string) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	for _, l := range o.Lower {
		if err := unix.FsconfigSetString(fs, "lowerdir+", l); err != nil {
			return err
		}
	}
	options := o.Options
	if o.Upper != "" {
		options = append([]string{"upperdir=" + o.Upper, "workdir=" + o.Work}, options...)
	}
	if o.Context != "" {
		options = append(slices.Clip(options), "context="+o.Context)
	}
	for _, opt := range options {
		key, value, has := strings.Cut(opt, "=")
		if has {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return &optionError{option: opt, err: err}
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(o.Flags)) // MOUNT_ATTR_* have the same values
	if err != nil {
		return err
	}
	defer unix.Close(m)
	return unix.MoveMount(m, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

type optionError struct {
	option string
	err    error
}

func (e *optionError) Error() string { return "option " + e.option + ": " + e.err.Error() }
func (e *optionError) Unwrap() error { return e.err }
