package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/spec"
)

// appArmor tells whether this host confines with AppArmor. Inside somebody
// else's container its files are not there, although the module is.
func appArmor() bool {
	on, err := procfs.Read("/sys/module/apparmor/parameters/enabled", 8)
	if err != nil || !bytes.HasPrefix(on, []byte("Y")) {
		return false
	}
	_, err = os.Stat(appArmorProfiles)
	return err == nil
}

// appArmorProfiles lists the profiles of the kernel, "NAME (MODE)" a line.
const appArmorProfiles = "/sys/kernel/security/apparmor/profiles"

// confine makes sure that what is to confine the container does: the AppArmor
// profile is loaded.
func (l *launch) confine() error {
	if name := l.spec.Process.ApparmorProfile; name != "" && name != "unconfined" {
		err := ensureProfile(name)
		if errors.Is(err, exec.ErrNotFound) && l.c.Spec.AppArmor == "" {
			// A Debian without the package has a kernel with AppArmor all the
			// same; podman and docker say nothing there.
			l.warnings = append(l.warnings, "the container runs without an AppArmor profile: apparmor_parser, which loads it, is not installed (package apparmor)")
			l.spec.Process.ApparmorProfile, err = "", nil
		}
		if err != nil {
			return err
		}
	}
	if l.c.ProcessLabel == "" && seLinux() && l.e.conf.File.Containers.EnableLabeling && l.c.MountLabel == "" {
		l.warnings = append(l.warnings, "the container runs without an SELinux label: it was made where there were none")
	}
	return nil
}

// appArmorProfile is the one that a container has, or would get now.
func (e *Engine) appArmorProfile(c *cove.Container) string {
	if !appArmor() {
		return c.Spec.AppArmor
	}
	return spec.AppArmorProfile(&c.Spec, e.conf.Rootless, cmp.Or(e.configuredFor(c).AppArmor, defaultProfile))
}

// ensureProfile loads our own profile unless it is there. Others are the
// administrator's to load.
func ensureProfile(name string) error {
	data, err := os.ReadFile(appArmorProfiles)
	if err != nil {
		return cove.E("read", appArmorProfiles, fileKind(err), err)
	}
	if profileLoaded(string(data), name) {
		return nil
	}
	if name != defaultProfile {
		return cove.E("", "", cove.Invalid, fmt.Errorf("AppArmor profile %q is not loaded", name))
	}
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil { // it may be out of an ordinary PATH
		if parser, err = exec.LookPath("/usr/sbin/apparmor_parser"); err != nil {
			return cove.E("load AppArmor profile", name, cove.Unavailable, fmt.Errorf("apparmor_parser (package apparmor): %w", exec.ErrNotFound))
		}
	}
	// -K: no cache of a text that is not a file.
	cmd := exec.Command(parser, "-Kr")
	cmd.Stdin = strings.NewReader(profileText(name))
	if out, err := cmd.CombinedOutput(); err != nil {
		return cove.E("load AppArmor profile", name, cove.Unavailable, fmt.Errorf("apparmor_parser: %w: %s", err, bytes.TrimSpace(out)))
	}
	return nil
}

func profileLoaded(list, name string) bool {
	for line := range strings.Lines(list) {
		if have, _, ok := strings.Cut(line, " ("); ok && have == name {
			return true
		}
	}
	return false
}

// defaultProfile is the profile that confines a container unless another is
// named. Its name changes when its text does: the kernel keeps what it has.
const defaultProfile = "containers-default-cove-1"

// profileText is what the default profile allows: everything that namespaces
// and capabilities leave to a container, but not to reach around them through
// the kernel's files, nor to trace or signal what is not its own.
func profileText(name string) string {
	return strings.ReplaceAll(`profile NAME flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  deny mount,
  # cove and its monitors send signals, the container's processes each other
  signal (receive) peer=unconfined,
  signal (send, receive) peer=NAME,
  ptrace (trace, read, tracedby, readby) peer=NAME,
  # /proc: one's own processes, and the sysctls of one's own namespaces
  deny /proc/* w,
  deny /proc/[^1-9s]** w,
  deny /proc/s[^y]** w,
  deny /proc/sys/[^kfn]** w,
  deny /proc/sys/kernel/[^sm]** w,
  deny /proc/sys/kernel/s[^eh]** w,
  deny /proc/sys/kernel/mo** w,
  deny /proc/{kcore,sysrq-trigger} rwklx,
  # /sys: one's own cgroups
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
`, "NAME", name)
}
