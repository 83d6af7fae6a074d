package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// telling does the same with one runtime as with another, and writes down what
// came of it.
type telling struct {
	*bundle
	strings.Builder
	errors strings.Builder
	used   map[string]bool // "COMMAND --flag"
}

// begin starts a command whose output is read while it runs.
func (s *telling) begin(args ...string) (*exec.Cmd, io.Reader) {
	s.note(args)
	cmd := s.command(args...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return cmd, out
}

// note writes down what the flags of a call are.
func (s *telling) note(args []string) {
	command := ""
	for _, a := range args {
		name, _, _ := strings.Cut(a, "=")
		switch {
		case a == "--" || command != "" && !strings.HasPrefix(a, "-"):
			return // the container's ID, or an argument of a flag: give those by =
		case strings.HasPrefix(a, "-"):
			s.used[strings.TrimSpace(command+" "+name)] = true
		default:
			command = a
		}
	}
}

// do calls the runtime and writes down its code and output.
func (s *telling) do(args ...string) string {
	s.t.Helper()
	s.note(args)
	return s.say(s.command(args...), strings.Join(args, " "))
}

func (s *telling) say(cmd *exec.Cmd, what string) string {
	var out, errOut strings.Builder
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &errOut
	code := 0
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		code = -1
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			code = e.ExitCode()
		}
	}
	fmt.Fprintf(s, "%s: %d\n%s", s.plain(what), code, s.plain(out.String()))
	fmt.Fprintf(&s.errors, "%s: %d %s", what, code, errOut.String())
	return out.String()
}

// plain takes what differs by its nature out of a text.
func (s *telling) plain(text string) string {
	// runc explains its flags.
	text, _, _ = strings.Cut(text, "Incorrect Usage")
	return strings.NewReplacer(s.dir, "DIR", s.bin, "RUNTIME").Replace(text)
}

// see writes down something else.
func (s *telling) see(format string, args ...any) {
	s.WriteString(s.plain(fmt.Sprintf(format, args...)) + "\n")
}

// file writes down what is in a file of the bundle's, and waits for it.
func (s *telling) file(name, want string) {
	var text []byte
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if text, _ = os.ReadFile(filepath.Join(s.dir, name)); strings.Contains(string(text), want) {
			break
		}
	}
	s.see("%s: %s", name, text)
}

// script is what the container does from now on.
func (s *telling) script(text string) {
	s.Process.Args = []string{"sh", "-c", text}
	s.write()
}

// up has a container that lives until it is told to end.
func (s *telling) up() {
	s.t.Helper()
	ready := filepath.Join(s.dir, "rootfs/ready")
	_ = os.Remove(ready)
	s.script("trap 'exit 7' TERM; : > /ready; while :; do sleep 0.02; done")
	cmd := s.command("run", "-d", "--bundle="+s.dir, "c")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, nil, nil
	if err := cmd.Run(); err != nil {
		s.t.Fatal(err)
	}
	s.until("it has begun", func() bool { _, err := os.Stat(ready); return err == nil })
}

func (s *telling) down() { s.ok("delete", "--force", "c") }

func (s *telling) stopped() {
	s.until("it stops", func() bool { return s.state().Status == "stopped" })
}

// pid tells what a pid file has to do with the container.
func (s *telling) pid(name string) {
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	s.see("%s is the container's: %v %v", name, string(text) == strconv.Itoa(s.state().PID), err)
}

// terminal takes a terminal at a console socket and writes down what comes from
// it up to the word.
func (s *telling) terminal(word string, args ...string) {
	s.t.Helper()
	path := filepath.Join(s.dir, "console")
	_ = os.Remove(path)
	accept := listenFD(s.t, path)
	s.do(args...)
	master := accept()
	if args[0] == "create" {
		s.do("start", "c")
	}
	var text strings.Builder
	part := make([]byte, 1000)
	for !strings.Contains(text.String(), word+"\r\n") {
		n, err := master.Read(part)
		text.Write(part[:n])
		if err != nil {
			break
		}
	}
	s.see("terminal: %s", text.String())
}

// onTerminal is do from a terminal, without which runc has none to give.
func (s *telling) onTerminal(args ...string) {
	s.t.Helper()
	s.note(args)
	cmd := s.command(args...)
	for i, a := range cmd.Args {
		cmd.Args[i] = "'" + a + "'"
	}
	cmd.Args = []string{"script", "-qefc", strings.Join(cmd.Args, " "), "/dev/null"}
	cmd.Path = "/usr/bin/script"
	var out strings.Builder
	cmd.Stdout = &out
	s.say(cmd, strings.Join(args, " "))
	// The end of its input is shown, too, anywhere.
	s.see("%s", strings.Trim(out.String(), "^@D\b\x00\r\n"))
}

// withFiles is a call with descriptors from 3 on, each a file of its name.
func (s *telling) withFiles(args ...string) *exec.Cmd {
	s.t.Helper()
	s.note(args)
	cmd := s.command(args...)
	for _, name := range []string{"one", "two", "three"} {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(name+"\n"), 0o644); err != nil {
			s.t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = f.Close() })
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	return cmd
}

// limits writes down the container's, as the kernel has them.
func (s *telling) limits() {
	for _, name := range []string{
		"cpu/cpu.shares", "cpu/cpu.cfs_period_us", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_burst_us", "cpu/cpu.idle", "cpu/cpu.rt_period_us", "cpu/cpu.rt_runtime_us", "cpuset/cpuset.cpus", "cpuset/cpuset.mems",
		"memory/memory.limit_in_bytes", "memory/memory.soft_limit_in_bytes", "memory/memory.memsw.limit_in_bytes", "pids/pids.max", "blkio/blkio.weight", "blkio/blkio.bfq.weight",
		"cpu.max", "cpu.max.burst", "cpu.weight", "cpuset.cpus", "cpuset.mems", "memory.max", "memory.low", "memory.swap.max", "pids.max", "io.weight", "io.bfq.weight",
	} {
		controller, file := filepath.Split(name)
		text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", controller, s.Linux.CgroupsPath, file))
		if err == nil {
			s.see("%s: %s", file, strings.TrimSpace(string(text)))
		}
	}
}

const probe = `id -u; id -g; id -G; pwd; echo $X $Y; grep -E 'CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs' /proc/self/status`

// runtimeFlags are calls with each flag of each command.
var runtimeFlags = map[string]func(*telling){
	"global": func(s *telling) {
		out := s.ok("--version")
		s.see("version: %v", strings.Contains(out, " version ") && strings.Contains(out, "\nspec: 1."))
		s.see("-v: %v", s.ok("-v") == out)
		s.note([]string{"--version", "-v"})
		s.do("--log-format=text", "--root="+s.root, "--rootless=auto", "list", "-q")
		s.do("--rootless=false", "list", "-q")
		s.do("--criu=/usr/sbin/criu", "list", "-q")
		s.do("--log-format=yaml", "list", "-q")
		s.do("--no-such-flag", "list")
		s.do("no-such-command")
		for _, format := range []string{"text", "json"} {
			log := filepath.Join(s.dir, "log-"+format)
			s.do("--log="+log, "--log-format="+format, "state", "nowhere")
			text, _ := os.ReadFile(log)
			if format == "json" {
				var line struct{ Level, Msg, Time string }
				err := json.Unmarshal(text, &line)
				s.see("log: %s %v (%v)", line.Level, strings.HasPrefix(line.Msg, "container does not exist"), err)
			} else {
				s.see("log: %v", regexp.MustCompile(`^time="[^"]*" level=error msg="container does not exist`).Match(text))
			}
		}
		log := filepath.Join(s.dir, "log")
		s.do("--debug", "--log="+log, "list", "-q")
		s.script("true")
		s.do("--debug", "--log="+log, "run", "--bundle="+s.dir, "c")
		text, _ := os.ReadFile(log)
		s.see("debug: %v", strings.Contains(string(text), "level=debug"))
	},
	"spec": func(s *telling) {
		for _, flags := range [][]string{{"-b"}, {"--bundle"}, {"--rootless", "-b"}} {
			dir := filepath.Join(s.dir, "spec"+strings.Join(flags, ""))
			if err := os.Mkdir(dir, 0o755); err != nil {
				s.t.Fatal(err)
			}
			last := len(flags) - 1
			args := append([]string{"spec"}, flags[:last]...)
			s.do(append(args, flags[last]+"="+dir)...)
			var spec specs.Spec
			data, err := os.ReadFile(filepath.Join(dir, "config.json"))
			if err == nil {
				err = json.Unmarshal(data, &spec)
			}
			if err != nil {
				s.t.Fatal(err)
			}
			// Of later releases: more is hidden, less is given.
			spec.Version, spec.Hostname, spec.Linux.MaskedPaths, spec.Process.Capabilities.Ambient = "", "", nil, nil
			spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace })
			spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/sys/fs/cgroup" })
			slices.SortFunc(spec.Linux.Namespaces, func(a, b specs.LinuxNamespace) int { return strings.Compare(string(a.Type), string(b.Type)) })
			data, _ = json.MarshalIndent(&spec, "", " ")
			s.see("%s", data)
			s.do(append(args, flags[last]+"="+dir)...) // it is there
		}
	},
	"create": func(s *telling) {
		s.script("echo ran; exit 3")
		for _, flag := range []string{"--bundle", "-b"} {
			out, err := os.Create(filepath.Join(s.dir, "out"))
			if err != nil {
				s.t.Fatal(err)
			}
			args := []string{"create", flag + "=" + s.dir, "--pid-file=" + filepath.Join(s.dir, "pid"), "c"}
			s.note(args)
			cmd := s.command(args...)
			cmd.Stdout = out
			s.say(cmd, "create")
			s.pid("pid")
			s.see("%s", s.state().Status)
			s.do("create", flag+"="+s.dir, "c")
			s.do("start", "c")
			s.stopped()
			s.file("out", "ran")
			_ = out.Close()
			s.do("start", "c")
			s.do("delete", "c")
		}
		s.do("create", "--bundle="+s.dir)
		s.do("create", "--bundle="+s.dir, "a/b")
		s.do("create", "--bundle=/nowhere", "c")
		s.do("start", "c")
	},
	"run": func(s *telling) {
		s.script("echo ran; exit 3")
		s.do("run", "--bundle="+s.dir, "c")
		s.do("run", "-b="+s.dir, "c")
		s.do("run", "--keep", "--bundle="+s.dir, "c")
		s.see("%s", s.state().Status)
		s.do("delete", "c")
		for _, flag := range []string{"--detach", "-d"} {
			cmd := s.command("run", flag, "--pid-file="+filepath.Join(s.dir, "pid"), "--bundle="+s.dir, "c")
			s.note([]string{"run", flag, "--pid-file="})
			null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
			if err != nil {
				s.t.Fatal(err)
			}
			s.script("sleep 60")
			cmd.Stdout = null
			s.say(cmd, "run "+flag)
			s.pid("pid")
			s.see("%s", s.state().Status)
			s.do("delete", "-f", "c")
		}
	},
	"orphans": func(s *telling) {
		s.setNamespace(specs.PIDNamespace, "-")
		s.script(`(sh -c 'sleep 0.3; while read -r name value; do case $name in PPid:) echo $value;; esac; done < /proc/self/status' &); sleep 0.8`)
		for _, flags := range [][]string{nil, {"--no-subreaper"}} {
			cmd, out := s.begin(append(append([]string{"run"}, flags...), "--bundle="+s.dir, "c")...)
			var parent int
			_, err := fmt.Fscan(out, &parent)
			s.see("run %v: the runtime is the orphan's parent: %v (%v)", flags, parent == cmd.Process.Pid, err)
			_ = cmd.Wait()
		}
	},
	"no-pivot": func(s *telling) {
		s.script("ls -d /bin; test -e /proc/self/cwd && pwd")
		for _, verb := range []string{"run", "create"} {
			for _, flags := range [][]string{nil, {"--no-pivot"}} {
				trace := filepath.Join(s.dir, "trace")
				args := append(append([]string{verb}, flags...), "--bundle="+s.dir, "c")
				s.note(args)
				cmd := s.command(args...)
				cmd.Args = append([]string{"strace", "-f", "-qq", "-e", "trace=pivot_root", "-e", "signal=none", "-o", trace}, cmd.Args...)
				cmd.Path = "/usr/bin/strace"
				if verb == "create" {
					cmd.Stdout, _ = os.OpenFile("/dev/null", os.O_RDWR, 0)
				}
				if verb == "create" {
					// strace would stay with the container.
					cmd.Args = slices.Insert(cmd.Args, 1, "-D")
				}
				s.say(cmd, strings.Join(args, " "))
				text, _ := os.ReadFile(trace)
				s.see("pivot_root: %v", strings.Contains(string(text), "pivot_root("))
				s.do("delete", "--force", "c")
			}
		}
	},
	"keyring": func(s *telling) {
		s.Linux.MaskedPaths = nil
		// The kernel frees a keyring some time after its container: it has a name of its own here, and comes last.
		s.script("grep -o -e 'keyring *_ses.keyring' -e 'keyring *the-callers' /proc/keys | busybox sort -u")
		for _, flags := range [][]string{{"--no-new-keyring"}, nil} {
			for _, verb := range []string{"run", "create"} {
				out := filepath.Join(s.dir, "out")
				args := append(append([]string{verb}, flags...), "--bundle="+s.dir, "keyring")
				s.note(args)
				done := make(chan error)
				go func() {
					runtime.LockOSThread() // and ends with the keyring
					id, err := unix.KeyctlJoinSessionKeyring("the-callers")
					if err == nil {
						err = unix.KeyctlSetperm(id, 0x3f000000) // seen by who possesses it alone
					}
					if err == nil {
						cmd := s.command(args...)
						var f *os.File
						if f, err = os.Create(out); err == nil {
							cmd.Stdout = f
							s.say(cmd, strings.Join(args, " "))
							_ = f.Close()
						}
					}
					done <- err
				}()
				if err := <-done; err != nil {
					s.t.Fatal(err)
				}
				if verb == "create" {
					s.do("start", "keyring")
					s.until("it stops", func() bool { return strings.Contains(s.ok("state", "keyring"), `"stopped"`) })
					s.do("delete", "keyring")
				}
				s.file("out", "keyring")
			}
		}
	},
	"preserve-fds": func(s *telling) {
		s.script("ls /proc/self/fd | wc -l; cat <&3")
		s.say(s.withFiles("run", "--preserve-fds=1", "--bundle="+s.dir, "c"), "run")
		s.say(s.withFiles("run", "--preserve-fds=2", "--bundle="+s.dir, "c"), "run")
		create := s.withFiles("create", "--preserve-fds=1", "--bundle="+s.dir, "c")
		out, err := os.Create(filepath.Join(s.dir, "out"))
		if err != nil {
			s.t.Fatal(err)
		}
		create.Stdout = out
		s.say(create, "create")
		s.do("start", "c")
		s.stopped()
		s.do("delete", "c")
		s.file("out", "one")
		s.up()
		s.say(s.withFiles("exec", "--preserve-fds=2", "c", "sh", "-c", "ls /proc/self/fd | wc -l; cat <&3 <&4"), "exec")
		s.down()
		// Sockets of systemd's.
		s.script("echo $LISTEN_FDS $LISTEN_PID; ls /proc/self/fd | wc -l; cat <&4")
		run := s.withFiles("run", "--preserve-fds=1", "--bundle="+s.dir, "c")
		run.Args = append([]string{"sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh"}, run.Args...)
		run.Path = "/bin/sh"
		s.say(run, "run with LISTEN_FDS")
	},
	"terminal": func(s *telling) {
		socket := "--console-socket=" + filepath.Join(s.dir, "console")
		s.do("run", socket, "--bundle="+s.dir, "c") // there is no terminal
		s.Process.Terminal = true
		s.script("test -t 0 && test -t 1 && echo done; sleep 60")
		for _, args := range [][]string{{"create"}, {"run", "--detach"}} {
			s.terminal("done", append(args, socket, "--bundle="+s.dir, "c")...)
			s.down()
		}
		s.do("create", "--bundle="+s.dir, "c")
		s.do("run", "--detach", "--bundle="+s.dir, "c")
		s.script("test -t 0 && test -t 1 && echo done")
		s.onTerminal("run", "--bundle="+s.dir, "c")
		s.Process.Terminal = false
		s.up()
		for _, flag := range []string{"--tty", "-t"} {
			s.terminal("done", "exec", flag, "--detach", socket, "c", "sh", "-c", "test -t 0 && echo done; sleep 60")
			s.onTerminal("exec", flag, "c", "tty")
		}
		s.do("exec", "c", "test", "-t", "0")
		s.down()
	},
	"exec": func(s *telling) {
		s.Process.Env = append(s.Process.Env, "X=container")
		s.up()
		for _, flags := range []string{
			"", "--cwd=/tmp", "--cwd=/nowhere", "--cwd=tmp", "--env=X=exec", "-e=X=exec -e=Y=more", "--user=7", "--user=7:8", "-u=7:8", "--user=name", "--user=-1", "--user=4294967295", "--user=7:4294967295", "--additional-gids=4294967295",
			"--additional-gids=5 --additional-gids=6", "-g=5 -u=7:8", "--no-new-privs", "--cap=CAP_SYS_ADMIN", "-c=CAP_SYS_ADMIN -c=CAP_NET_ADMIN", "--cap=CAP_SYS_ADMIN --user=7",
			"--cap=CAP_NONSENSE", "--apparmor=nowhere", "--process-label=a:b:c:s0", "--preserve-fds=99999", "--no-such-flag",
		} {
			args := append(append([]string{"exec"}, strings.Fields(flags)...), "c", "sh", "-c", probe)
			s.do(args...)
		}
		s.do("exec", "c")
		s.do("exec", "nowhere", "true")
		s.do("exec", "c", "sh", "-c", "exit 42")
		s.do("exec", "c", "sh", "-c", "kill -9 $$")
		s.do("exec", "c", "nowhere")
		s.do("exec", "c", "/etc")
		file := filepath.Join(s.dir, "process.json")
		p := *s.Process
		p.Args, p.Cwd, p.User, p.NoNewPrivileges = []string{"sh", "-c", probe}, "/tmp", specs.User{UID: 9, GID: 10}, false
		data, _ := json.Marshal(&p)
		if err := os.WriteFile(file, data, 0o644); err != nil {
			s.t.Fatal(err)
		}
		s.do("exec", "--process="+file, "c")
		s.do("exec", "-p="+file, "c")
		s.do("exec", "--process="+file+"-", "c")
		for _, flag := range []string{"--detach", "-d"} {
			args := []string{"exec", flag, "--pid-file=" + filepath.Join(s.dir, "exec.pid"), "c", "sleep", "60"}
			s.note(args)
			cmd := s.command(args...)
			cmd.Stdout, _ = os.OpenFile("/dev/null", os.O_RDWR, 0)
			s.say(cmd, "exec "+flag)
			text, _ := os.ReadFile(filepath.Join(s.dir, "exec.pid"))
			name, _ := os.ReadFile("/proc/" + string(text) + "/cmdline")
			s.see("%q", name)
		}
		s.do("pause", "c")
		s.do("exec", "c", "true")
		args := []string{"exec", "--ignore-paused", "c", "echo", "thawed"}
		s.note(args)
		cmd := s.command(args...)
		time.AfterFunc(300*time.Millisecond, func() { s.ok("resume", "c") })
		s.say(cmd, "exec --ignore-paused")
		s.down()
	},
	"exec --cgroup": func(s *telling) {
		s.up()
		arg, at := "pids,memory:sub", []string{"pids", "memory"}
		if cgroup2() {
			arg, at = "sub", []string{""}
		}
		for _, controller := range at {
			if err := os.Mkdir(filepath.Join("/sys/fs/cgroup", controller, s.Linux.CgroupsPath, "sub"), 0o755); err != nil {
				s.t.Fatal(err)
			}
		}
		for _, arg := range []string{arg, "nothing:sub", "pids:../.."} {
			s.do("exec", "--cgroup="+arg, "c", "grep", "-c", "/sub$", "/proc/self/cgroup")
		}
		s.down()
	},
	"kill": func(s *telling) {
		for _, rest := range [][]string{{"c"}, {"c", "TERM"}, {"c", "15"}, {"c", "SIGKILL"}, {"--all", "c", "KILL"}, {"-a", "c", "9"}} {
			s.up()
			s.do(append([]string{"kill"}, rest...)...)
			s.stopped()
			s.do(append([]string{"kill"}, rest...)...)
			s.do("delete", "c")
		}
		s.up()
		s.do("kill", "c", "NONSENSE")
		s.do("kill", "c", "0")
		s.do("kill", "nowhere")
		s.do("delete", "c")
		s.do("delete", "--force", "c")
		s.do("delete", "--force", "c")
		s.do("delete", "c")
		s.up()
		s.do("delete", "-f", "c")
	},
	"list": func(s *telling) {
		s.do("list", "--quiet")
		s.do("list", "-f=json")
		s.up()
		s.do("list", "-q")
		s.do("list", "--quiet")
		s.do("list", "--format=nonsense")
		for _, flag := range []string{"--format", "-f"} {
			args := []string{"list", flag + "=table"}
			s.note(args)
			lines := strings.Split(s.ok(args...), "\n")
			fields := strings.Fields(lines[1])
			_, err := time.Parse(time.RFC3339Nano, fields[4])
			s.see("%s\n%s %s %s %s %v", strings.Join(strings.Fields(lines[0]), " "), fields[0], fields[2], fields[3], fields[5], err)
			var all []map[string]any
			args[1] = flag + "=json"
			err = json.Unmarshal([]byte(s.ok(args...)), &all)
			s.see("%v %d", err, len(all))
			s.fields(all[0])
		}
		one := map[string]any{}
		err := json.Unmarshal([]byte(s.ok("state", "c")), &one)
		s.see("%v", err)
		s.fields(one)
		s.do("state", "nowhere")
		s.down()
	},
	"ps": func(s *telling) {
		s.script("exec sleep 1234")
		cmd := s.command("run", "-d", "--bundle="+s.dir, "c")
		if err := cmd.Run(); err != nil {
			s.t.Fatal(err)
		}
		for _, flag := range []string{"--format", "-f"} {
			args := []string{"ps", flag + "=json", "c"}
			s.note(args)
			var pids []int
			err := json.Unmarshal([]byte(s.ok(args...)), &pids)
			s.see("%v %v", slices.Equal(pids, []int{s.state().PID}), err)
			s.do("ps", flag+"=nonsense", "c")
		}
		s.until("its command runs", func() bool { return strings.Contains(s.ok("ps", "c"), "sleep") })
		s.note([]string{"ps", "--format=table"})
		out := s.ok("ps", "--format=table", "c", "-o", "pid=PID,ppid=PPID,user,args")
		s.see("%s", strings.Replace(out, strconv.Itoa(s.state().PID), "ITS", 1))
		out = s.ok("ps", "c")
		s.see("%d lines, %v", strings.Count(out, "\n"), strings.Contains(out, "sleep 1234"))
		s.do("ps", "nowhere")
		s.down()
	},
	"pause": func(s *telling) {
		s.up()
		s.do("resume", "c")
		s.do("pause", "c")
		s.see("%s", s.state().Status)
		s.do("pause", "c")
		s.do("resume", "c")
		s.see("%s", s.state().Status)
		s.do("pause", "nowhere")
		s.down()
	},
	"events": func(s *telling) {
		limit := int64(64 << 20)
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
		s.up()
		var e struct {
			Type, ID string
			Data     struct {
				Memory struct{ Usage struct{ Limit int64 } }
				Pids   struct{ Current int64 }
			}
		}
		s.note([]string{"events", "--stats"})
		err := json.Unmarshal([]byte(s.ok("events", "--stats", "c")), &e)
		s.see("%s %s %d %v %v", e.Type, e.ID, e.Data.Memory.Usage.Limit, e.Data.Pids.Current >= 1, err)
		if !cgroup2() { // there runc's releases differ
			var all any
			err = json.Unmarshal([]byte(s.ok("events", "--stats", "c")), &all)
			s.see("%s %v", strings.Join(shape("", all), "\n"), err)
		}
		s.do("events", "--interval=0s", "c")
		s.do("events", "nowhere")
		begun := time.Now() // of all: one that comes late is followed the sooner by the next
		cmd, out := s.begin("events", "--interval=100ms", "c")
		d := json.NewDecoder(out)
		for n := range 3 {
			err := d.Decode(&e)
			s.see("%s %v %v", e.Type, err, time.Since(begun) > time.Duration(n)*100*time.Millisecond)
		}
		// More than it may have.
		_, _ = s.try("exec", "c", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
		for e.Type != "oom" && d.Decode(&e) == nil {
		}
		s.see("%s %s", e.Type, e.ID)
		s.down()
		for d.Decode(&e) == nil {
		}
		_ = cmd.Wait()
		s.do("events", "--stats", "c")
	},
	"update": func(s *telling) {
		s.up()
		s.limits()
		for _, flags := range []string{
			// Shares that are the same weight by runc's curve of 2025 and the one before.
			"--cpu-share=262144", "--cpu-period=50000 --cpu-quota=20000", "--cpu-quota=-1", "--cpuset-cpus=0", "--cpuset-mems=0",
			"--memory=64m --memory-swap=128m", "--memory=32m", "--memory-reservation=16m", "--memory-swap=-1", "--memory=-1", "--pids-limit=50", "--pids-limit=-1",
			"--blkio-weight=500", "--cpu-rt-period=1000000 --cpu-rt-runtime=0", "--cpu-rt-runtime=1000", "--kernel-memory=1m --kernel-memory-tcp=1m --pids-limit=20", "--memory=nonsense", "--cpu-share=x", "--cpuset-cpus=999", "--no-such-flag",
			"--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=1",
		} {
			args := append(append([]string{"update"}, strings.Fields(flags)...), "c")
			if cgroup2() && strings.HasPrefix(flags, "--cpu-rt") {
				s.note(args) // which version 2 does not have: runc passes over them
				continue
			}
			s.do(args...)
			s.limits()
		}
		for _, flag := range []string{"--resources", "-r"} {
			for _, text := range []string{
				`{"pids":{"limit":30},"memory":{"limit":67108864,"swap":134217728},"cpu":{"shares":2,"quota":10000,"period":100000}}`,
				`{"devices":[{"allow":false,"access":"rwm"}],"pids":{"limit":31}}`, `nonsense`,
			} {
				file := filepath.Join(s.dir, "resources")
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					s.t.Fatal(err)
				}
				s.do("update", flag+"="+file, "c")
				s.limits()
			}
			cmd := s.command("update", flag+"=-", "c")
			cmd.Stdin = strings.NewReader(`{"pids":{"limit":40}}`)
			s.say(cmd, "update from its input")
			s.limits()
		}
		s.do("update", "--pids-limit=1", "nowhere")
		s.down()
	},
}

// shape is what keys JSON has, and of which type; but for what the kernel alone
// decides on, devices, of which there may be none yet, and pressure, which Debian's
// runc does not know.
func shape(at string, v any) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if !slices.Contains([]string{"raw", "blkio", "cache", "psi"}, k) {
				all = append(all, shape(at+"."+k, v[k])...)
			}
		}
		return append(all, at)
	case []any:
		return append(all, at+"[]")
	}
	return append(all, fmt.Sprintf("%s %T", at, v))
}

// fields writes down a state's.
func (s *telling) fields(state map[string]any) {
	for _, k := range slices.Sorted(maps.Keys(state)) {
		switch k {
		case "pid":
			s.see("pid: %v", state[k] == float64(s.state().PID))
		case "created", "ociVersion":
			s.see("%s: %T", k, state[k])
		case "owner": // runc's list alone tells it
		default:
			s.see("%s: %v", k, state[k])
		}
	}
}

// notBeside are flags that are not compared here, with the reason.
var notBeside = map[string]string{
	"--systemd-cgroup":      "where systemd manages cgroups, in the guest",
	"exec --no-subreaper":   "newer than Debian 12's runc, and of no effect there",
	"update --cpu-burst":    "newer than Debian 12's runc: TestRuntimeResources",
	"update --cpu-idle":     "the same",
	"create --pidfd-socket": "newer than Debian 12's runc: TestRuntimePIDFDSocket",
	"exec --pidfd-socket":   "the same",
	"run --pidfd-socket":    "the same",
	"--help":                "words of one's own",
	"-h":                    "the same",
}

// TestRuntimeFlags does the same with cove-runtime and with runc, with every flag
// that either of them has.
func TestRuntimeFlags(t *testing.T) {
	runc, err := exec.LookPath("runc")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("needs runc")
	}
	used, done := map[string]bool{}, 0
	for _, name := range slices.Sorted(maps.Keys(runtimeFlags)) {
		t.Run(name, func(t *testing.T) {
			told := func(bin string) *telling {
				s := &telling{bundle: newBundle(t, "true"), used: used}
				if bin != "" {
					s.bin = bin
				}
				runtimeFlags[name](s)
				return s
			}
			ours, theirs := told(""), told(runc)
			done++
			if ours.String() == theirs.String() {
				return
			}
			a, b := filepath.Join(t.TempDir(), "cove-runtime"), filepath.Join(t.TempDir(), "runc")
			if err := errors.Join(os.WriteFile(a, []byte(ours.String()), 0o644), os.WriteFile(b, []byte(theirs.String()), 0o644)); err != nil {
				t.Fatal(err)
			}
			diff, _ := exec.Command("diff", "-U2", b, a).Output()
			t.Errorf("%s\ncove-runtime said:\n%s\nrunc said:\n%s", diff, ours.errors.String(), theirs.errors.String())
		})
	}
	if done < len(runtimeFlags) {
		return // -run has chosen some
	}
	b := newBundle(t, "true")
	flag := regexp.MustCompile(`(?m)^ +(-[a-zA-Z0-9-]+)(?: value)?(?:, (-[a-zA-Z]))?`)
	for _, bin := range []string{b.bin, runc} {
		for _, command := range strings.Fields("- create delete events exec features kill list pause ps resume run spec start state update") {
			args := []string{command, "--help"}
			if command = strings.TrimPrefix(command, "-"); command == "" {
				args = args[1:]
			}
			out, err := exec.Command(bin, args...).Output()
			if err != nil {
				t.Fatal(args, err)
			}
			for _, m := range flag.FindAllStringSubmatch(string(out), -1) {
				for _, f := range m[1:] {
					if f == "" {
						continue
					}
					if f = strings.TrimSpace(command + " " + f); !used[f] && notBeside[f] == "" {
						t.Errorf("%s has %s, which nothing here uses", filepath.Base(bin), f)
					}
				}
			}
		}
	}
}

// An engine's update has the whole section of the spec in it. Device rules are told
// to stay as they are only where they are to be others.
func TestRuntimeUpdateDevices(t *testing.T) {
	b := newBundle(t, "sleep 60")
	major, minor := int64(1), int64(11)
	b.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "r"}}}
	b.start()
	limit, file := int64(77), filepath.Join(b.dir, "resources")
	update := func() string {
		data, err := json.Marshal(b.Linux.Resources)
		if err == nil {
			err = os.WriteFile(file, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.ok("update", "--resources", file, "c")
	}
	b.Linux.Resources.Pids = &specs.LinuxPids{Limit: &limit}
	b.expect(update(), "")
	b.Linux.Resources.Devices = b.Linux.Resources.Devices[:1]
	if out := update(); !strings.Contains(out, "linux.resources.devices: stay as they are") {
		t.Errorf("other rules: %q", out)
	}
	for _, d := range cgroupsAt(b.Linux.CgroupsPath) {
		if text, err := os.ReadFile(d + "/pids.max"); err == nil && string(text) != "77\n" {
			t.Errorf("%s: %s", d, text)
		}
	}
}
