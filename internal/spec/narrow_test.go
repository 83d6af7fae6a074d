package spec

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestDefaultNotWider holds the default container against what docker and
// podman give theirs, as read from the config.json that they wrote.
func TestDefaultNotWider(t *testing.T) {
	dockerCaps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}
	hidden := []string{"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/fs/selinux", "/proc/bus", "/proc/fs", "/proc/irq",
		"/proc/sys", "/proc/sysrq-trigger"}
	for _, name := range []string{"default", "default-v1", "default-rootless", "default-rootless-v1", "userns"} {
		f := newFixture()
		goldenCases[name](f)
		s, extra, _, err := Make(f.container(), f.host)
		if err != nil {
			t.Fatal(name, err)
		}
		c := s.Process.Capabilities
		for _, set := range [][]string{c.Bounding, c.Effective, c.Permitted} {
			for _, have := range set {
				if !slices.Contains(dockerCaps, have) {
					t.Errorf("%s: has %s", name, have)
				}
			}
		}
		if len(c.Inheritable)+len(c.Ambient) > 0 {
			t.Errorf("%s: inheritable %v, ambient %v", name, c.Inheritable, c.Ambient)
		}
		for _, p := range hidden {
			if !slices.Contains(s.Linux.MaskedPaths, p) && !slices.Contains(s.Linux.ReadonlyPaths, p) {
				t.Errorf("%s: %s is open", name, p)
			}
		}
		for _, typ := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace} {
			if !slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == typ }) {
				t.Errorf("%s: shares the host's %s", name, typ)
			}
		}
		if d := s.Linux.Resources.Devices; !f.host.Rootless && (len(d) != 1 || d[0].Allow) {
			t.Errorf("%s: device rules %v", name, d)
		}
		if len(s.Linux.Devices) > 0 || extra.Seccomp != "" {
			t.Errorf("%s: devices %v, seccomp %q", name, s.Linux.Devices, extra.Seccomp)
		}
		for _, m := range s.Mounts {
			want := []string{"nosuid", "noexec"}
			switch m.Destination {
			case "/sys", "/sys/fs/cgroup":
				want = append(want, "nodev", "ro")
			case "/proc", "/dev/shm", "/dev/mqueue":
				want = append(want, "nodev")
			case "/dev", "/dev/pts":
			default:
				want = nil
			}
			for _, o := range want {
				if !slices.Contains(m.Options, o) {
					t.Errorf("%s: %s without %s", name, m.Destination, o)
				}
			}
		}
	}
}

// FuzzOptions looks for panics and for values that smuggle a second option.
func FuzzOptions(f *testing.F) {
	for _, s := range []string{"ro", "size=1m", "mode=755", "upperdir=/x", "idmap=uids=0-1-2", "relabel=x", "=", "bind-propagation=shared"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, opt string, tmpfs bool) {
		o, err := parseOptions([]string{opt}, tmpfs, false, true, true, true)
		if err != nil {
			return
		}
		for _, out := range o.oci {
			if slices.Contains([]byte(out), ',') {
				t.Errorf("%q gave %q", opt, out)
			}
		}
	})
}

// FuzzImage makes the specification for images that say anything: no panic, no
// NUL that would cut a string short in the kernel, and nothing of the image's
// is mounted from the host.
func FuzzImage(f *testing.F) {
	for _, s := range []string{
		`{"cmd":["sh"],"env":["A=b","PATH=/"],"user":"1:2","workDir":"/w","volumes":["/v","/v/../etc","relative",""],"exposedPorts":["80/tcp","x"],"labels":{"a":"b"},"stopSignal":"SIGQUIT","health":{"test":["CMD","x"],"interval":-1}}`,
		`{"entrypoint":[],"cmd":null,"env":["=","NOEQ",""],"user":":","workDir":"../..","volumes":["/proc","/dev","/sys/fs/cgroup","/"]}`,
		`{"user":"0:","stopSignal":"99","os":"windows","architecture":"\u0000"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		x := newFixture()
		if json.Unmarshal(raw, &x.c.Image) != nil {
			return
		}
		made, _, _, err := Make(x.container(), x.host)
		if err != nil {
			return
		}
		for _, s := range slices.Concat(made.Process.Args, made.Process.Env, []string{made.Process.Cwd}) {
			if strings.Contains(s, "\x00") {
				t.Errorf("%q holds a NUL", s)
			}
		}
		for _, m := range made.Mounts {
			if m.Type == "bind" && !strings.HasPrefix(m.Source, "/ctr/") && !strings.HasPrefix(m.Source, "/graph/volumes/") && !strings.HasPrefix(m.Source, "/sys/") && m.Source != "/dev/null" {
				t.Errorf("the image mounts %s on %s", m.Source, m.Destination)
			}
		}
	})
}

// TestImageGivesNoOrders: what OCI runtimes and hooks take for orders is the
// user's to give, and no image's.
func TestImageGivesNoOrders(t *testing.T) {
	orders := map[string]string{
		"run.oci.seccomp_bpf_data": "AA==", "run.oci.hooks.stdout": "/etc/cron.d/x", "org.systemd.property.TasksMax": "1",
		"org.criu.config": "/x", "bundle": "/x", "io.katacontainers.config.hypervisor.path": "/x", "dev.gvisor.flag.debug": "true",
		"io.containers.trace-syscall": "of:/etc/passwd", "cdi.k8s.io/gpu": "nvidia.com/gpu=all",
		"io.podman.annotations.privileged": "TRUE", "org.opencontainers.image.title": "a",
	}
	f := newFixture()
	f.c.Image.Annotations = orders
	f.c.Spec.Annotations = map[string]string{"run.oci.keep_original_groups": "1"}
	s, _, _, err := Make(f.container(), f.host)
	if err != nil {
		t.Fatal(err)
	}
	for k := range orders {
		if v, ok := s.Annotations[k]; ok {
			t.Errorf("the image's %s=%s is the runtime's", k, v)
		}
	}
	if s.Annotations["run.oci.keep_original_groups"] != "1" {
		t.Errorf("annotations are lost: %v", s.Annotations)
	}
}
