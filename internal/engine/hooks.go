package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	old "go.podman.io/common/pkg/hooks/0.1.0"
	current "go.podman.io/common/pkg/hooks/1.0.0"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ctrinit/hook"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/oci/native"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/seccomp"
)

// Hooks come from hooks directories, oci-hooks(5), and from CDI. What init and
// its surroundings make of them is the monitor's to run, or another OCI
// runtime's; poststop is always the monitor's, precreate is ours.

// stagePrecreate is one of oci-hooks(5) that the specification does not know:
// its hooks change the configuration.
const stagePrecreate = "precreate"

// addDevices makes the edits of CDI devices.
func (l *launch) addDevices() error {
	if len(l.extra.CDI) == 0 {
		return nil
	}
	if l.e.cdi == nil {
		return l.e.images.Ready() // by the program that has it
	}
	rules := l.spec.Linux.Resources.Devices
	nodes, err := l.e.cdi(l.spec, l.e.conf.File.Engine.CdiSpecDirs.Get(), l.extra.CDI)
	if err != nil {
		return err
	}
	if l.e.conf.Rootless {
		l.spec.Linux.Resources.Devices = rules // nobody would carry them out
		bindNodes(l.spec, nodes)
	}
	for i := range l.spec.Mounts {
		m := &l.spec.Mounts[i]
		if m.Type == "" && (slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")) {
			m.Type = "bind"
		}
	}
	return l.checkSources()
}

// bindNodes has the host's own nodes in the place of those that an ordinary user
// may not make. Runtimes would look for them at the path that they have inside.
func bindNodes(s *specs.Spec, nodes map[string]string) {
	s.Linux.Devices = slices.DeleteFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool {
		source, of := nodes[d.Path]
		if of {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: d.Path, Type: "bind", Source: source, Options: []string{"rbind", "slave", "nosuid", "noexec"}})
		}
		return of
	})
}

// addHooks adds to the spec the hooks whose conditions it meets.
func (l *launch) addHooks(ctx context.Context) error {
	found, warnings, err := readHooks(l.e.conf.HooksDirs())
	l.warnings = append(l.warnings, warnings...)
	if err != nil {
		return err
	}
	var first []specs.Hook
	names := slices.SortedFunc(maps.Keys(found), func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a), strings.ToLower(b)), cmp.Compare(a, b))
	})
	for _, name := range names {
		h := found[name]
		is, err := h.When.Match(l.spec, l.spec.Annotations, len(l.c.Mounts) > 0)
		if err != nil {
			return badHook(name, err)
		}
		if !is {
			continue
		}
		if l.spec.Hooks == nil {
			l.spec.Hooks = &specs.Hooks{}
		}
		for _, stage := range h.Stages {
			if stage == stagePrecreate {
				first = append(first, h.Hook)
				continue
			}
			list := hooksAt(l.spec.Hooks, stage)
			if list == nil {
				return badHook(name, fmt.Errorf("unknown stage %q", stage))
			}
			*list = append(*list, h.Hook)
		}
	}
	if len(first) > 0 {
		if err := l.precreate(ctx, first); err != nil {
			return err
		}
	}
	l.settleHooks()
	if l.foreign == nil || l.spec.Hooks == nil {
		return nil
	}
	return l.checkFeatures(ctx)
}

func badHook(name string, err error) error {
	return cove.E("read hook", name, cove.Invalid, err)
}

// hooksAt gives the hooks of a stage of oci-hooks(5).
func hooksAt(h *specs.Hooks, stage string) *[]specs.Hook {
	switch stage {
	case "prestart", "createRuntime": // of old the same
		return &h.CreateRuntime
	case "createContainer":
		return &h.CreateContainer
	case "startContainer":
		return &h.StartContainer
	case "poststart":
		return &h.Poststart
	case "poststop":
		return &h.Poststop
	}
	return nil
}

// readHooks reads hooks by the names of their files, of which the last
// directory's counts.
func readHooks(dirs []string) (found map[string]*current.Hook, warnings []string, err error) {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, warnings, cove.E("read hooks", dir, fileKind(err), err)
		}
		for _, entry := range entries {
			name := filepath.Join(dir, entry.Name())
			if !strings.HasSuffix(name, ".json") {
				continue
			}
			h, err := readHook(name)
			if errors.Is(err, fs.ErrNotExist) {
				// As with podman: a package whose program is not there.
				warnings = append(warnings, fmt.Sprintf("hook %s is not run: %v", name, err))
				continue
			}
			if err != nil {
				return nil, warnings, badHook(name, err)
			}
			if found == nil {
				found = map[string]*current.Hook{}
			}
			found[entry.Name()] = h
		}
	}
	return found, warnings, nil
}

func readHook(name string) (*current.Hook, error) {
	// O_NONBLOCK: a FIFO must not hold the start up.
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxHook+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxHook {
		return nil, fmt.Errorf("it is larger than %d bytes", maxHook)
	}
	var version struct{ Version string }
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, err
	}
	read := current.Read
	switch version.Version {
	case current.Version:
	case old.Version, "":
		read = old.Read
	default:
		return nil, fmt.Errorf("unrecognized hook version: %q", version.Version)
	}
	h, err := read(text)
	if err == nil {
		err = h.Validate([]string{stagePrecreate, "poststop"})
	}
	return h, err
}

// precreate lets hooks change the spec before anything is made of it.
func (l *launch) precreate(ctx context.Context, hooks []specs.Hook) (err error) {
	if l.foreign == nil {
		if l.spec.Linux.Seccomp, err = filterSpec(l.extra.Seccomp, l.bounding()); err != nil {
			return err
		}
	}
	for i, h := range hooks {
		data, err := json.Marshal(l.spec)
		if err != nil {
			return cove.E("", "", cove.Internal, err)
		}
		changed := new(specs.Spec)
		out, err := filterThrough(ctx, h, data)
		if err == nil {
			if err = json.Unmarshal(out, changed); err == nil && (changed.Process == nil || changed.Root == nil || changed.Linux == nil) {
				err = errors.New("what it gives back is not a configuration")
			}
			l.spec = changed
		}
		if err != nil {
			kind := cove.Invalid
			if errors.Is(err, unix.ENOENT) { // as of the hooks that follow
				kind = cove.NoCommand
			}
			return cove.E("", "", kind, fmt.Errorf("%s hook #%d, %s: %w", stagePrecreate, i, h.Path, err))
		}
	}
	if l.foreign == nil {
		cache := seccomp.Cache{Dir: filepath.Join(l.e.conf.Base(), "seccomp")}
		if l.filter = (seccomp.Program{}); l.spec.Linux.Seccomp != nil {
			if l.filter, err = cache.Spec(l.spec.Linux.Seccomp, runtime.GOARCH); err != nil {
				return err
			}
		}
		if err := l.refuseNotify(); err != nil {
			return err
		}
	}
	return l.checkSources()
}

// hookLimit is what a hook may take that somebody waits for with a lock.
const hookLimit = 2 * time.Minute

// maxHook bounds a hook's file and the configuration that a hook gives back, in bytes.
const maxHook = 32 << 20

// bounded keeps what is written to it up to one byte more than maxHook, and fails then.
type bounded []byte

func (b *bounded) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), maxHook+1-len(*b))]...)
	if len(*b) > maxHook {
		return 0, unix.EFBIG
	}
	return len(p), nil
}

// filterThrough runs a program that is given a text and writes it anew. When its time
// is over or ctx ends, those go with it that it has started in its process group.
func filterThrough(ctx context.Context, h specs.Hook, text []byte) ([]byte, error) {
	limit := hookLimit
	if h.Timeout != nil && *h.Timeout > 0 {
		limit = min(limit, time.Duration(*h.Timeout)*time.Second)
	}
	late := fmt.Errorf("did not end within %s", limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env = append([]string{}, h.Env...) // none is none, not ours
	cmd.Stdin = bytes.NewReader(text)
	var out, said bounded
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case len(out) > maxHook || len(said) > maxHook:
		err = fmt.Errorf("it says more than %d bytes", maxHook)
	}
	if words := strings.Join(strings.Fields(string(said)), " "); err != nil && words != "" {
		err = fmt.Errorf("%w: %s", err, words[:min(len(words), 2<<10)])
	}
	return out, err
}

// settleHooks sorts the spec's hooks by who is to run them.
func (l *launch) settleHooks() {
	h := native.Hooks(l.spec.Hooks)
	if h == nil {
		l.spec.Hooks = nil
		return
	}
	if l.foreign != nil {
		h = &plan.Hooks{Poststop: h.Poststop}
		l.spec.Hooks.Poststop = nil
	}
	h.State = plan.HookState{Version: l.spec.Version, ID: l.c.ID, Bundle: l.e.bundle(l.c.ID), Annotations: l.spec.Annotations}
	l.hooks = h
}

// writeBundle writes the configuration where hooks look for it. Another OCI
// runtime's driver writes its own.
func (l *launch) writeBundle() error {
	if l.hooks == nil || l.foreign != nil {
		return nil
	}
	config, linux := *l.spec, *l.spec.Linux
	config.Linux = &linux
	var err error
	if linux.Seccomp == nil {
		if linux.Seccomp, err = filterSpec(l.extra.Seccomp, l.bounding()); err != nil {
			return err
		}
	}
	dir := l.hooks.State.Bundle
	data, err := json.Marshal(config)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600)
	}
	if err != nil {
		return cove.E("write", filepath.Join(dir, "config.json"), fileKind(err), err)
	}
	return nil
}

// wait waits for the monitor: without the lock where there are hooks, which
// take their time.
func (l *launch) wait(ctx context.Context, f func() error) error {
	if l.hooks == nil {
		return f()
	}
	l.unlock()
	err := f()
	again, lerr := l.e.lockContainer(context.WithoutCancel(ctx), l.c.ID)
	if lerr == nil {
		*l.lock = again
		if l.e.absent(l.c.ID) { // the lock was made by asking for it
			_ = l.e.locks.Forget(lock.Container, l.c.ID)
		}
	}
	l.overtaken = err != nil && l.isOvertaken()
	return errors.Join(err, lerr)
}

// isOvertaken tells whether the run that was being waited for has ended and been
// taken down by others, who may have begun the next one.
func (l *launch) isOvertaken() bool {
	run, err := runfile.Read(l.e.dir(l.c.ID))
	own := l.run.Generation + 1
	return err == nil && (run.Generation > own || run.Generation == own && run.Down)
}

// held tells whether the container has been recorded, and so locked.
func (l *launch) held() bool { return *l.lock != nil }

// unlock may be called more than once.
func (l *launch) unlock() {
	if l.held() {
		_ = (*l.lock).Unlock()
	}
}

// poststarted waits for the hooks that follow a start.
func (l *launch) poststarted(m *monitor.Conn) error {
	if l.hooks == nil || len(l.hooks.Poststart) == 0 {
		return nil
	}
	return m.Hooked()
}

// poststop runs the hooks that a monitor has not come to run. Somebody waits,
// so each has some seconds at most.
func poststop(h *plan.Hooks) {
	const most = 10 // seconds
	if h == nil {
		return
	}
	for i := range h.Poststop {
		one := h.Poststop[i]
		if one.Timeout == 0 || one.Timeout > most {
			one.Timeout = most
		}
		// One that fails keeps nothing from being taken down.
		_ = hook.Run("poststop", []plan.Hook{one}, h.In("stopped", 0), nil)
	}
}

// finishHooks runs the hooks that were due when a monitor was killed, or that
// conmon leaves to who records the end. They are in the plan.
func (e *Engine) finishHooks(c *Container) {
	if !c.Run.Poststop {
		return
	}
	var p struct{ Hooks *plan.Hooks }
	if data, err := readOwn(filepath.Join(e.dir(c.ID), "plan")); err == nil && json.Unmarshal(data, &p) == nil {
		poststop(p.Hooks)
	}
	c.Run.Poststop = false
}
