package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// house is an engine with namespaces, cgroups and a store of its own: mounts,
// network, processes and cgroups as on a machine that it has for itself.
type house struct {
	name    string // cove, podman or docker
	binary  string
	version string
	missing error // why there is none

	bench   *bench
	argv    []string // binary and global flags
	work    string
	cgroups []hierarchy
	process *exec.Cmd // the enter stage
	pid     int       // of init, seen from here
	in      io.WriteCloser
	out     *bufio.Reader
	pipe    io.Closer
}

// patience is how long the answer to one request may take at most.
const patience = 3 * time.Minute

// open makes the house and loads the image. It may be called again after
// shut, and the engine then begins with nothing.
func (h *house) open() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", h.name, err), h.shut())
		}
	}()
	h.bench.houses++
	id := fmt.Sprintf("%d-%s", h.bench.houses, h.name)
	h.work = filepath.Join(h.bench.work, id)
	if err := os.MkdirAll(filepath.Join(h.work, "home"), 0o755); err != nil {
		return err
	}
	if err := h.configure(); err != nil {
		return err
	}
	if h.cgroups, err = makeCgroups(filepath.Base(h.bench.work) + "-" + id); err != nil {
		return err
	}
	if err := h.start(); err != nil {
		return err
	}
	if h.name == "docker" {
		if err := h.dockerd(); err != nil {
			return err
		}
	}
	_, err = h.do("load", "-i", h.bench.image)
	return err
}

// configure writes the configuration files, the same for every engine.
func (h *house) configure() error {
	root := filepath.Join(h.work, "root")
	conf := filepath.Join(h.work, "containers.conf")
	// Soft limits that any root can set, whatever limits the machine gave it.
	containers := "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=4096:8192\"]\n" +
		"[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n"
	h.argv = []string{h.binary}
	switch h.name {
	case "podman":
		containers += "[network]\nnetwork_backend = \"netavark\"\n"
		if !nat() {
			containers += "firewall_driver = \"none\"\n" // cove gets by without by itself
		}
		h.argv = append(h.argv, "--root", root, "--runroot", run, "--tmpdir", run+"/libpod", "--network-config-dir", filepath.Join(h.work, "networks"), "--runtime", ociRuntime())
	case "cove":
		h.argv = append(h.argv, "--root", root, "--runroot", run)
	case "docker":
		h.argv = append(h.argv, "-H", "unix://"+h.socket())
	}
	for path, text := range map[string]string{
		conf:                                     containers,
		filepath.Join(h.work, "storage.conf"):    fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", root, run),
		filepath.Join(h.work, "registries.conf"): fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", registryAddr),
		filepath.Join(h.work, "auth.json"):       "{}\n",
		filepath.Join(h.work, "daemon.json"):     fmt.Sprintf("{\"runtimes\": {\"cove\": {\"path\": %q}}}\n", h.bench.runtime),
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// run is each house's run root: in memory, as the engines' own are on a machine
// with systemd.
const run = "/run/engine"

// nat says whether the kernel can translate addresses by nftables; it is
// tried in a network namespace of its own.
var nat = sync.OnceValue(func() bool {
	const rules = "add table inet probe; add chain inet probe c { type nat hook postrouting priority 100; }"
	return exec.Command("unshare", "--net", "nft", rules).Run() == nil
})

func (h *house) socket() string { return filepath.Join(h.work, "docker.sock") }

// start starts the stages and waits for the agent.
func (h *house) start() error {
	home := filepath.Join(h.work, "home")
	p, err := json.Marshal(plan{Work: h.work, Cgroups: h.cgroups, Env: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "DOCKER_CONFIG=" + home, "TMPDIR=" + h.bench.tmp, "LANG=C",
		"CONTAINERS_CONF=" + filepath.Join(h.work, "containers.conf"),
		"CONTAINERS_STORAGE_CONF=" + filepath.Join(h.work, "storage.conf"),
		"CONTAINERS_REGISTRIES_CONF=" + filepath.Join(h.work, "registries.conf"),
		"REGISTRY_AUTH_FILE=" + filepath.Join(h.work, "auth.json"),
	}})
	if err != nil {
		return err
	}
	h.process = stageCommand("enter")
	h.process.Dir = "/"
	h.process.Env = append(h.process.Env, planVar+"="+string(p))
	// Not in the terminal's group: an interrupt is for us to carry out.
	h.process.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	h.process.Stdin, h.process.Stdout = nil, nil
	if h.in, err = h.process.StdinPipe(); err != nil {
		return err
	}
	out, err := h.process.StdoutPipe()
	if err != nil {
		return err
	}
	h.out, h.pipe = bufio.NewReader(out), out
	if err := h.process.Start(); err != nil {
		h.process = nil
		return err
	}
	var first hello
	if err := h.read(&first, patience); err != nil {
		return fmt.Errorf("its house does not stand: %w", err)
	}
	h.pid = first.PID
	// Once the agent answers, init and enter are where they belong.
	if _, err := h.ask(request{}); err != nil {
		return err
	}
	delegate(h.cgroups)
	return nil
}

func (h *house) dockerd() error {
	_, err := h.ask(request{Daemon: []string{
		"dockerd", "--config-file", filepath.Join(h.work, "daemon.json"), "-H", "unix://" + h.socket(),
		"--data-root", filepath.Join(h.work, "root"), "--exec-root", run, "-p", filepath.Join(h.work, "docker.pid"),
	}})
	if err == nil {
		_, err = h.ask(request{Dial: [2]string{"unix", h.socket()}, Limit: 30 * time.Second})
	}
	if err == nil {
		_, err = h.do("version")
	}
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(h.work, "daemon.log"))
		return fmt.Errorf("dockerd does not answer: %w: %s", err, log[max(0, len(log)-400):])
	}
	return nil
}

// ask gives the agent's answer.
func (h *house) ask(q request) (reply, error) {
	var r reply
	if h.process == nil {
		return r, h.missing
	}
	if q.Limit == 0 {
		q.Limit = patience
	}
	if err := json.NewEncoder(h.in).Encode(q); err != nil {
		return r, err
	}
	if err := h.read(&r, q.Limit+2*time.Minute); err != nil {
		return r, err
	}
	if r.Err != "" {
		return r, errors.New(r.Err)
	}
	return r, nil
}

// read reads a line. When it takes too long, or the user interrupts, the
// house falls.
func (h *house) read(into any, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(h.bench.ctx, limit)
	defer cancel()
	process := h.process.Process
	defer context.AfterFunc(ctx, func() { _ = process.Kill() })()
	line, err := h.out.ReadBytes('\n')
	if err == nil {
		return json.Unmarshal(line, into)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// command is the engine's, with its global flags.
func (h *house) command(args ...string) []string {
	return append(h.argv[:len(h.argv):len(h.argv)], args...)
}

// do runs one command and gives what it has printed.
func (h *house) do(args ...string) (string, error) {
	r, err := h.ask(request{Run: [][]string{h.command(args...)}})
	return r.Output, err
}

// shut ends every process of the house and removes what is left of it.
func (h *house) shut() error {
	if h.process != nil {
		_ = h.process.Process.Kill()
		_ = h.in.Close()
		_ = h.pipe.Close()
		_ = h.process.Wait() // killed
		h.process = nil
	}
	var failed error
	if h.cgroups != nil {
		failed = removeCgroups(h.cgroups)
		h.cgroups = nil
	}
	if h.work != "" {
		failed = errors.Join(failed, os.RemoveAll(h.work))
		h.work = ""
	}
	return failed
}

// reset gives the engine an empty store again, with the image.
func (h *house) reset() error {
	if err := h.shut(); err != nil {
		return err
	}
	return h.open()
}

// firstLine is what programs say to --version.
func firstLine(binary string) string {
	out, err := exec.Command(binary, "--version").Output()
	if err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
