package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/oci/native"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/seccomp"
)

// A container may be made by another OCI runtime (--runtime). The monitor,
// the record, networks and volumes are the same; the runtime gets a bundle, by
// a driver that stands in init's place (internal/ctrinit/drive).

// isForeign tells whether a program makes the container: another OCI runtime,
// or cove's own where conmon is the monitor.
func isForeign(c *cove.Container) bool { return c.Spec.Runtime != "" || c.Spec.Monitor != "" }

// foreign is the beginning of the plan for a container of another runtime, nil
// for cove's own.
func (e *Engine) foreign(c *cove.Container) (*plan.Foreign, error) {
	if !isForeign(c) {
		return nil, nil
	}
	name, program := c.Spec.Runtime, ""
	var err error
	if name == "" {
		program, err = e.runtime()
	} else {
		program, err = e.runtimeProgram(name)
	}
	if err != nil {
		return nil, err
	}
	f := &plan.Foreign{Version: plan.Version, ID: c.ID, Dir: e.bundle(c.ID), NoKeyring: !e.conf.File.Containers.EnableKeyring}
	f.Runtime = []string{program, "--root", filepath.Join(f.Dir, "state")}
	for _, flag := range slices.Concat(e.conf.File.Engine.OCIRuntimesFlags[path.Base(name)], e.conf.RuntimeFlags) {
		f.Runtime = append(f.Runtime, "--"+strings.TrimLeft(flag, "-"))
	}
	if c.Spec.Cgroups == cgroupsDisabled {
		f.Runtime = append(f.Runtime, "--cgroup-manager", "disabled") // crun's
	}
	if slices.Contains(e.conf.File.Engine.RuntimeSupportsJSON.Get(), path.Base(name)) {
		f.Runtime = append(f.Runtime, "--log-format", "json")
	}
	return f, nil
}

// bundle is where a container's bundle is, with what its runtime keeps: not
// below the run root, which may be deleted at any time.
func (e *Engine) bundle(id string) string { return filepath.Join(e.dir(id), "oci") }

// runtimeProgram finds an OCI runtime: a path as it is, a name by
// containers.conf's [engine.runtimes], then in PATH.
func (e *Engine) runtimeProgram(name string) (string, error) {
	bad := func(why string) (string, error) {
		return "", cove.E("", "", cove.Invalid, fmt.Errorf("OCI runtime %q %s: invalid argument", name, why))
	}
	if path.IsAbs(name) {
		if executable(name) != nil {
			return bad("cannot be executed")
		}
		return name, nil
	}
	if strings.Contains(name, "/") {
		return bad("is neither a name nor an absolute path")
	}
	places := e.conf.File.Engine.OCIRuntimes[name]
	for _, p := range places {
		if executable(p) == nil {
			return p, nil
		}
	}
	p, err := exec.LookPath(name)
	if err == nil {
		p, err = filepath.Abs(p)
	}
	if err == nil {
		return p, nil
	}
	if len(places) > 0 {
		return bad("not found, neither at " + strings.Join(places, ", ") + " nor in PATH")
	}
	return bad("not found, neither in containers.conf's [engine.runtimes] nor in PATH")
}

// executable tells of a program; a directory, which may have the same permission, is none.
func executable(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	if err == nil {
		err = unix.Access(path, unix.X_OK)
	}
	return err
}

// adapt completes the spec by what cove's own runtime does without it, and
// refuses what a runtime cannot be asked for.
func (l *launch) adapt(ctx context.Context) (err error) {
	// What is in here has been in the specification for long; some runtimes
	// refuse a version that they do not know.
	l.spec.Version = "1.0.2"
	for i := range l.spec.Mounts {
		m := &l.spec.Mounts[i]
		if m.Type == "bind" && !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
			m.Options = append(m.Options, "bind")
		}
	}
	if l.spec.Linux.Seccomp, err = filterSpec(l.extra.Seccomp, l.bounding()); err != nil {
		return err
	}
	return l.checkFeatures(ctx)
}

// filterSpec is the seccomp profile in the words of the runtime specification.
func filterSpec(profile string, caps []string) (*specs.LinuxSeccomp, error) {
	target := seccomp.Target{Arch: runtime.GOARCH, Caps: caps}
	if profile == "unconfined" {
		return nil, nil
	}
	var err error
	if target.Kernel, err = seccomp.RunningKernel(); err != nil {
		return nil, err
	}
	if profile == "" {
		return seccomp.Default(target)
	}
	return seccomp.Load(profile, target)
}

// writeForeign hands the runtime's configuration over.
func (l *launch) writeForeign(o *native.Options, joins []native.Join) error {
	f := l.foreign
	if strings.HasPrefix(l.c.Spec.IPC, "container:") {
		fd, err := l.e.sharedMemory(l.c.Spec.IPC)
		if err != nil {
			return err
		}
		l.files = append(l.files, monitor.File{Name: "shm", FD: fd})
		// crun makes a bind without what is not asked for, be it on its source.
		l.spec.Mounts = append(l.spec.Mounts, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: f.Dir + "/shm", Options: []string{"bind", "nosuid", "nodev", "noexec"}})
	}
	for _, w := range l.extra.Mounts {
		if w.Chown {
			f.Chown = append(f.Chown, w.Source)
		}
	}
	l.placeForeign()
	f.Root = plan.Root{Path: l.spec.Root.Path, Overlay: o.Overlay}
	f.Process = toLookUp(l.spec.Process)
	f.Process.User, f.Process.Groups, f.Process.MakeCwd, f.Accounts = o.User, o.Groups, o.CreateWorkDir, l.accounts()
	f.Process.Rows, f.Process.Cols = o.Rows, o.Cols
	config, err := json.Marshal(l.spec)
	if err != nil {
		return cove.E("", "", cove.Internal, err)
	}
	f.Config, f.Hooks = config, l.hooks
	l.health, err = health(l.c, func(args []string) (any, error) {
		return execForeign(*f, func(p *specs.Process) { p.Args, p.Terminal = args, false })
	})
	if err != nil {
		return err
	}
	if err := l.handPlan(f); err != nil {
		return err
	}
	return l.handNamespaces(joins)
}

// placeForeign tells the runtime where an ordinary user's cgroups are. Where none
// is delegated it is asked for no cgroup and no limits: a runtime passes over
// what it may not make only if no path was asked for.
func (l *launch) placeForeign() {
	if l.c.Spec.Cgroups == cgroupsDisabled {
		l.spec.Linux.CgroupsPath, l.spec.Linux.Resources = "", nil
		return
	}
	if !l.e.conf.Rootless {
		return
	}
	if len(l.cgroups.Dirs) == 0 {
		l.spec.Linux.CgroupsPath, l.spec.Linux.Resources = "", nil
		return
	}
	l.spec.Linux.CgroupsPath = l.layout.Base + l.spec.Linux.CgroupsPath
}

// toLookUp is what the driver has to know of a process.
func toLookUp(p *specs.Process) plan.Process {
	return plan.Process{Args: p.Args, Env: p.Env, Cwd: p.Cwd, SetHome: true, UID: p.User.UID, GID: p.User.GID, GIDs: p.User.AdditionalGids, Terminal: p.Terminal}
}

// foreignExec describes one more process in a container of another runtime.
func (e *Engine) foreignExec(c *Container, x ExecSpec, terminal *os.File) (*plan.Foreign, error) {
	data, err := readOwn(filepath.Join(c.Dir, "plan"))
	if err != nil {
		return nil, cove.E("read plan of container", c.Name, fileKind(err), err)
	}
	var whole plan.Foreign
	if err := json.Unmarshal(data, &whole); err != nil {
		return nil, cove.E("read plan of container", c.Name, cove.Internal, err)
	}
	if c.Spec.Runtime == "" {
		// Ours is below the run root, and may have to be put there again.
		if whole.Runtime[0], err = e.runtime(); err != nil {
			return nil, err
		}
	}
	f, err := execForeign(whole, func(p *specs.Process) {
		p.Args, p.Terminal = x.Command, x.Terminal
		p.Env = x.environment(p.Env)
		if x.WorkDir != "" {
			p.Cwd = x.WorkDir
		}
		if x.User != "" {
			p.User = specs.User{Umask: p.User.Umask}
			if caps := p.Capabilities; caps != nil {
				p.Capabilities = &specs.LinuxCapabilities{Bounding: caps.Bounding}
				if x.asRoot() {
					p.Capabilities.Effective, p.Capabilities.Permitted = caps.Bounding, caps.Bounding
				}
			}
		}
		if x.Privileged {
			all := boundingCaps()
			p.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
			p.NoNewPrivileges, p.ApparmorProfile = false, ""
		}
	})
	if err != nil {
		return nil, err
	}
	if x.User != "" {
		f.Process.User, f.Process.Groups = x.User, nil
	}
	if x.Terminal {
		size := windowSize(terminal)
		f.Process.Rows, f.Process.Cols = size.Rows, size.Cols
	}
	return f, nil
}

// execForeign makes the plan of an exec from the container's.
func execForeign(f plan.Foreign, change func(*specs.Process)) (*plan.Foreign, error) {
	var whole specs.Spec
	if err := json.Unmarshal(f.Config, &whole); err != nil || whole.Process == nil {
		return nil, cove.E("read the container's configuration", f.ID, cove.Internal, err)
	}
	p := whole.Process
	p.OOMScoreAdj, p.ConsoleSize = nil, nil
	change(p)
	user, groups := f.Process.User, f.Process.Groups
	f.Process, f.Chown, f.Accounts = toLookUp(p), nil, nil
	f.Process.User, f.Process.Groups = user, groups
	var err error
	if f.Config, err = json.Marshal(p); err != nil {
		return nil, cove.E("", "", cove.Internal, err)
	}
	return &f, nil
}

// forgetForeign has the runtime of a container whose monitor is gone forget it.
// Nothing of the container runs any more.
func (e *Engine) forgetForeign(c *cove.Container) {
	if _, err := os.Lstat(e.bundle(c.ID)); err != nil || !isForeign(c) {
		return
	}
	if f, err := e.foreign(c); err == nil {
		_, _ = askProgram(context.Background(), f.Runtime[0], append(slices.Clone(f.Runtime[1:]), "delete", "--force", c.ID)...)
	}
}

// endRuntimes ends what still is at work for a run whose monitor was killed. Its
// driver dies with the monitor, and the runtime with the driver, when the kernel
// comes to it; what a script in the runtime's place has called does not, and would
// make the container when all of it has been taken down: a runtime is ended with its
// process group, as its driver would, before that is. With conmon the driver outlives
// it to see to it.
func (e *Engine) endRuntimes(c *cove.Container) error {
	if c.Spec.Runtime == "" || c.Spec.Monitor != "" {
		return nil
	}
	pids, err := processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := e.endRuntimeGroup(pid, c.ID); err != nil {
			return err
		}
	}
	return endEach(func(pid int) (bool, error) { return e.worksFor(pid, c.ID) })
}

// endRuntimeGroup kills a process group that a container's OCI runtime leads.
func (e *Engine) endRuntimeGroup(pid int, id string) error {
	if is, err := e.isRuntimeOf(pid, id); err != nil || !is {
		return err
	}
	if group, err := unix.Getpgid(pid); err != nil || group != pid {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if is, err := e.isRuntimeOf(pid, id); err != nil || !is {
		return err
	}
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP) == unix.EINVAL { // before Linux 6.9
		_ = unix.Kill(-pid, unix.SIGKILL)
	}
	return nil
}

// worksFor tells whether a process is a container's driver, or its OCI runtime
// that carries out a command. An error tells that it may be.
func (e *Engine) worksFor(pid int, id string) (bool, error) {
	if is, err := e.isRuntimeOf(pid, id); err != nil || is {
		return is, err
	}
	argv, err := commandLine(pid)
	if err != nil || argv[0] != "cove-runtime-driver" {
		return false, err
	}
	if ours, err := hasOurRights(pid); err != nil || !ours {
		return false, err
	}
	names, err := opened(pid)
	if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, e.dir(id)+"/") }) {
		return true, nil
	}
	return false, err
}

// isRuntimeOf tells whether a process is the container's OCI runtime: by its words, which
// a process of the container may have as well, and its rights. An error tells that it may be.
func (e *Engine) isRuntimeOf(pid int, id string) (bool, error) {
	argv, err := commandLine(pid)
	at := slices.Index(argv, filepath.Join(e.bundle(id), "state"))
	if err != nil || at < 1 || argv[at-1] != "--root" {
		return false, err
	}
	return hasOurRights(pid)
}
