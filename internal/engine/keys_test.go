package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/inspect"
	"github.com/cove-engine/cove/internal/journal"
	"github.com/cove-engine/cove/internal/lock/file"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/memory"
)

// scene is what can be seen of a container that was made with a containers.conf
// and of its engine, short of starting it.
type scene struct {
	*launch
	inspect  *inspect.ContainerData
	warnings []string // of its creation
	rooms    *fakeRooms
	dirs     []string
	dir      string // has an executable file "program", empty files and whatever a proof puts there
}

// proof shows that a key acts: see is want with the text, and something else without
// it. What another room does is shown by a test of that room's, file#Test, that has
// what comes of the key and of its absence, and what only a kernel with SELinux
// does by a script.
type proof struct {
	text string // DIR stands for the scene's directory
	see  func(*scene) any
	want string
	user bool // of an ordinary user's engine
	test string
}

const scripts = "../../test/testdata/script/"

// proofs has every key that acts.
var proofs = map[string]proof{
	"containers.annotations":                {text: `annotations = ["a=b"]`, see: func(s *scene) any { return s.spec.Annotations["a"] }, want: "b"},
	"containers.apparmor_profile":           {text: `apparmor_profile = "mine"`, see: func(s *scene) any { return s.c.Defaults().AppArmor }, want: "mine"},
	"containers.base_hosts_file":            {text: `base_hosts_file = "DIR/hosts"`, see: func(s *scene) any { return line(s.hosts(), "192.0.2.5") }, want: "192.0.2.5\tfrom.base"},
	"containers.cgroup_conf":                {text: `cgroup_conf = ["memory.high=7"]`, see: func(s *scene) any { return fmt.Sprint(s.spec.Linux.Resources.Unified, s.inspect.HostConfig.CgroupConf) }, want: "map[memory.high:7] map[memory.high:7]"},
	"containers.cgroupns":                   {text: `cgroupns = "host"`, see: func(s *scene) any { return s.inspect.HostConfig.CgroupMode }, want: "host"},
	"containers.cgroups":                    {text: `cgroups = "disabled"`, see: func(s *scene) any { return s.inspect.HostConfig.Cgroups + s.spec.Linux.CgroupsPath }, want: "disabled"},
	"containers.container_name_as_hostname": {text: `container_name_as_hostname = true`, see: func(s *scene) any { return s.spec.Hostname + s.inspect.Config.Hostname }, want: "proofproof"},
	"containers.default_capabilities":       {text: `default_capabilities = []`, see: func(s *scene) any { return s.spec.Process.Capabilities.Bounding }, want: "[]"},
	"containers.default_sysctls":            {text: `default_sysctls = ["net.a=b"]`, see: func(s *scene) any { return s.spec.Linux.Sysctl }, want: "map[net.a:b]"},
	"containers.default_ulimits":            {text: `default_ulimits = ["core=1:2"]`, see: func(s *scene) any { return s.spec.Process.Rlimits[0] }, want: "{RLIMIT_CORE 2 1}"},
	"containers.devices":                    {text: `devices = ["/dev/null:/dev/other:r"]`, see: func(s *scene) any { return s.inspect.HostConfig.Devices }, want: "[{/dev/null /dev/other r}]"},
	"containers.dns_options":                {text: `dns_options = ["ndots:7"]`, see: func(s *scene) any { return line(s.resolvConf(), "options") }, want: "options ndots:7"},
	"containers.dns_searches":               {text: `dns_searches = ["a.test"]`, see: func(s *scene) any { return line(s.resolvConf(), "search") }, want: "search a.test"},
	"containers.dns_servers":                {text: `dns_servers = ["192.0.2.1"]`, see: func(s *scene) any { return line(s.resolvConf(), "nameserver") }, want: "nameserver 192.0.2.1"},
	"containers.env": {text: `env = ["A=b", "PROOF_OF_*"]`, see: func(s *scene) any {
		return has(s.spec.Process.Env, "A=b") && has(s.inspect.Config.Env, "PROOF_OF_ENV=1")
	}, want: "true"},
	"containers.env_host":                    {text: `env_host = true`, see: func(s *scene) any { return has(s.spec.Process.Env, "PROOF_OF_ENV=1") }, want: "true"},
	"containers.host_containers_internal_ip": {text: `host_containers_internal_ip = "192.0.2.7"`, see: func(s *scene) any { return line(s.hosts(), "192.0.2.7") }, want: "192.0.2.7\thost.containers.internal host.docker.internal"},
	"containers.http_proxy":                  {text: `http_proxy = false`, see: func(s *scene) any { return has(s.spec.Process.Env, "http_proxy=http://proof") }, want: "false"},
	"containers.init":                        {text: `init = true`, see: func(s *scene) any { return s.spec.Process.Args[0] }, want: "/run/podman-init"},
	"containers.init_path":                   {text: "init = true\ninit_path = \"DIR/program\"", see: func(s *scene) any { return s.source("/run/podman-init") }, want: "DIR/program"},
	"containers.ipcns":                       {text: `ipcns = "private"`, see: func(s *scene) any { return fmt.Sprint(s.inspect.HostConfig.IpcMode, s.e.shareable(s.c)) }, want: "privatefalse"},
	"containers.keyring":                     {text: "keyring = false", see: func(s *scene) any { return s.planned().NoKeyring }, want: "true"},
	"containers.label":                       {test: scripts + "selinux.txt"},
	"containers.log_driver":                  {text: `log_driver = "json-file"`, see: func(s *scene) any { return s.inspect.HostConfig.LogConfig.Type + s.envelope().Log.Driver }, want: "json-filejson-file"},
	"containers.log_path":                    {text: `log_path = "DIR/logs"`, see: func(s *scene) any { return s.envelope().Log.Path[:len(s.dir)+5] }, want: "DIR/logs"},
	"containers.log_size_max":                {text: `log_size_max = 8192`, see: func(s *scene) any { return s.envelope().Log.MaxSize }, want: "8192"},
	"containers.log_tag":                     {text: `log_tag = "{{.Name}}"`, see: func(s *scene) any { return s.envelope().Log.Tag }, want: "proof"},
	"containers.mounts":                      {text: `mounts = ["type=tmpfs,destination=/proof"]`, see: func(s *scene) any { return s.source("/proof") }, want: "tmpfs"},
	"containers.netns":                       {text: `netns = "none"`, see: func(s *scene) any { return s.inspect.HostConfig.NetworkMode + fmt.Sprint(len(s.c.Attachments)) }, want: "none0"},
	"containers.no_hosts":                    {text: `no_hosts = true`, see: func(s *scene) any { return s.source("/etc/hosts") }, want: ""},
	"containers.oom_score_adj":               {text: `oom_score_adj = 12`, see: func(s *scene) any { return fmt.Sprint(*s.spec.Process.OOMScoreAdj, s.inspect.HostConfig.OomScoreAdj) }, want: "12 12"},
	"containers.pidns":                       {text: `pidns = "host"`, see: func(s *scene) any { return s.inspect.HostConfig.PidMode + fmt.Sprint(s.namespace("pid")) }, want: "hostfalse"},
	"containers.pids_limit": {text: `pids_limit = 99`, see: func(s *scene) any {
		return fmt.Sprint(*s.spec.Linux.Resources.Pids.Limit, s.inspect.HostConfig.PidsLimit)
	}, want: "99 99"},
	"containers.prepare_volume_on_create": {text: "prepare_volume_on_create = true\nvolumes = [\"proof:/proof\"]", see: func(s *scene) any { return s.filled("proof") }, want: "true"},
	"containers.privileged":               {text: `privileged = true`, see: func(s *scene) any { return fmt.Sprint(s.inspect.HostConfig.Privileged, s.extra.Seccomp) }, want: "trueunconfined"},
	"containers.read_only":                {text: `read_only = true`, see: func(s *scene) any { return s.spec.Root.Readonly }, want: "true"},
	"containers.seccomp_profile":          {text: `seccomp_profile = "DIR/profile.json"`, see: func(s *scene) any { return s.extra.Seccomp }, want: "DIR/profile.json"},
	"containers.shm_size":                 {text: `shm_size = "7m"`, see: func(s *scene) any { return s.inspect.HostConfig.ShmSize }, want: "7000000"},
	"containers.tz":                       {text: `tz = "local"`, see: func(s *scene) any { return s.inspect.Config.Timezone + s.source("/etc/localtime") }, want: "local/etc/localtime"},
	"containers.umask":                    {text: `umask = "0077"`, see: func(s *scene) any { return fmt.Sprint(*s.spec.Process.User.Umask, s.inspect.Config.Umask) }, want: "630077"},
	"containers.userns":                   {text: `userns = "host"`, see: func(s *scene) any { return s.inspect.HostConfig.UsernsMode }, want: "host"},
	"containers.utsns":                    {text: `utsns = "host"`, see: func(s *scene) any { return s.inspect.HostConfig.UTSMode + fmt.Sprint(s.namespace("uts")) }, want: "hostfalse"},
	"containers.volumes":                  {text: `volumes = ["DIR:/proof:ro"]`, see: func(s *scene) any { return s.source("/proof") }, want: "DIR"},

	"engine.cdi_spec_dirs":      {text: `cdi_spec_dirs = ["DIR"]`, see: func(s *scene) any { return s.cdiDirs() }, want: "[DIR]"},
	"engine.cgroup_manager":     managerProof(),
	"engine.compression_format": {test: "../image/library/conf_test.go#TestConfiguredCompression"},
	"engine.compression_level":  {test: "../image/library/conf_test.go#TestConfiguredCompression"},
	"engine.conmon_env_vars": {text: `conmon_env_vars = ["PROOF=conmon", "PROOF_OF_ENV=0"]`, see: func(s *scene) any {
		return has(s.e.conmonEnv(), "PROOF=conmon") && has(s.e.conmonEnv(), "PROOF_OF_ENV=1")
	}, want: "true"},
	"engine.conmon_path":             {text: `conmon_path = ["DIR/program"]`, see: func(s *scene) any { p, _ := s.e.conmonProgram("conmon"); return p }, want: "DIR/program"},
	"engine.database_backend":        {test: "../wiring/conf_test.go#TestConfiguredBackend"},
	"engine.detach_keys":             {text: `detach_keys = "ctrl-a,b"`, see: func(s *scene) any { k, _ := detachKeys("", s.e.conf.File.Engine.DetachKeys); return k }, want: "[1 98]"},
	"engine.enable_port_reservation": {text: `enable_port_reservation = false`, see: func(s *scene) any { return s.reserved() }, want: "0"},
	"engine.env": {text: `env = ["http_proxy=http://not.over.it", "ftp_proxy=http://engine"]`, see: func(s *scene) any {
		return has(s.spec.Process.Env, "ftp_proxy=http://engine") && has(s.spec.Process.Env, "http_proxy=http://proof")
	}, want: "true"},
	"engine.events_container_create_inspect_data": {text: `events_container_create_inspect_data = true`, see: func(s *scene) any { return strings.Contains(s.rooms.events.inspected, s.c.ID) }, want: "true"},
	"engine.events_logfile_max_size":              {text: `events_logfile_max_size = "7k"`, see: func(s *scene) any { return s.e.conf.File.Engine.EventsLogFileMaxSize }, want: "7000"},
	"engine.events_logfile_path":                  {text: "events_logger = \"file\"\nevents_logfile_path = \"DIR/events\"", see: func(s *scene) any { return s.envelope().Events.Path }, want: "DIR/events"},
	"engine.events_logger":                        {text: `events_logger = "none"`, see: func(s *scene) any { return s.envelope().Events == nil }, want: "true"},
	"engine.healthcheck_events":                   {text: "events_logger = \"file\"\nhealthcheck_events = false", see: func(s *scene) any { return s.envelope().Events.NoHealth }, want: "true"},
	"engine.helper_binaries_dir":                  {text: `helper_binaries_dir = ["DIR/bin"]`, user: true, see: func(s *scene) any { p, _ := s.e.networkProgram("pasta"); return p }, want: "DIR/bin/pasta"},
	"engine.hooks_dir":                            {text: `hooks_dir = ["DIR"]`, see: func(s *scene) any { return s.e.conf.HooksDirs() }, want: "[DIR]"},
	"engine.image_copy_tmp_dir":                   {text: `image_copy_tmp_dir = "DIR"`, see: func(s *scene) any { i, _ := s.e.storeInfo(context.Background()); return i.ImageCopyTmpDir }, want: "DIR"},
	"engine.image_parallel_copies":                {test: "../image/library/conf_test.go#TestConfiguredParallel"},
	"engine.image_volume_mode":                    {text: `image_volume_mode = "tmpfs"`, see: func(s *scene) any { return s.imageVolume() }, want: "tmpfs"},
	"engine.init_path":                            {text: "init_path = \"DIR/program\"\n[containers]\ninit = true", see: func(s *scene) any { return s.source("/run/podman-init") }, want: "DIR/program"},
	"engine.lock_type":                            {test: "../wiring/conf_test.go#TestConfiguredLocks"},
	"engine.monitor":                              {text: "monitor = \"conmon\"\nconmon_path = [\"DIR/conmon\"]", see: func(s *scene) any { return s.c.Spec.Monitor }, want: "conmon"},
	"engine.multi_image_archive":                  {text: `multi_image_archive = true`, see: func(s *scene) any { d, _ := s.e.Defaults(); return d.MultiImageArchive }, want: "true"},
	"engine.network_cmd_options":                  {text: "network_cmd_options = [\"mtu=1400\"]\nhelper_binaries_dir = [\"DIR/bin\"]", user: true, see: func(s *scene) any { return s.connects("slirp4netns", "--mtu=1400") }, want: "true"},
	"engine.network_cmd_path":                     {text: `network_cmd_path = "DIR/program"`, user: true, see: func(s *scene) any { p, _ := s.e.networkProgram("slirp4netns"); return p }, want: "DIR/program"},
	"engine.num_locks":                            {test: "../wiring/conf_test.go#TestConfiguredLocks"},
	"engine.platform_to_oci_runtime":              {text: "[engine.platform_to_oci_runtime]\n\"/\" = \"DIR/program\"", see: func(s *scene) any { return s.c.Spec.Runtime }, want: "DIR/program"},
	"engine.pull_policy":                          {text: `pull_policy = "always"`, see: func(s *scene) any { return s.pulls() }, want: "true"},
	"engine.retry":                                {test: "../image/library/conf_test.go#TestConfiguredRetries"},
	"engine.retry_delay":                          {test: "../image/library/conf_test.go#TestConfiguredRetries"},
	"engine.runtime":                              {text: `runtime = "DIR/program"`, see: func(s *scene) any { return s.inspect.OCIRuntime }, want: "DIR/program"},
	"engine.runtime_supports_json":                {text: "runtime_supports_json = [\"program\"]\nruntime = \"DIR/program\"", see: func(s *scene) any { return s.foreign != nil && has(s.foreign.Runtime, "--log-format") }, want: "true"},
	"engine.runtime_supports_kvm":                 {test: scripts + "selinux.txt"},
	"engine.runtime_supports_nocgroup":            {text: "runtime_supports_nocgroup = [\"program\"]\nruntime = \"DIR/program\"\n[containers]\ncgroups = \"disabled\"", see: func(s *scene) any { return has(s.foreign.Runtime, "disabled") }, want: "true"},
	"engine.runtimes":                             {text: "runtime = \"proof\"\n[engine.runtimes]\nproof = [\"/no/such\", \"DIR/program\"]", see: func(s *scene) any { return s.foreign != nil && s.foreign.Runtime[0] == s.dir+"/program" }, want: "true"},
	"engine.runtimes_flags":                       {text: "runtime = \"program\"\n[engine.runtimes]\nprogram = [\"DIR/program\"]\n[engine.runtimes_flags]\nprogram = [\"debug\"]", see: func(s *scene) any { return s.foreign != nil && has(s.foreign.Runtime, "--debug") }, want: "true"},
	"engine.stop_timeout":                         {text: `stop_timeout = 3`, see: func(s *scene) any { return fmt.Sprint(s.envelope().StopTimeout, s.inspect.Config.StopTimeout) }, want: "3 3"},
	"engine.volume_path":                          {text: `volume_path = "DIR/volumes"`, see: func(s *scene) any { return s.e.volumeData("proof")[:len(s.dir)+8] }, want: "DIR/volumes"},

	"network.default_host_ips":             {text: `default_host_ips = ["127.0.0.7"]`, see: func(s *scene) any { return s.inspect.HostConfig.PortBindings["80/tcp"][0].HostIP }, want: "127.0.0.7"},
	"network.default_network":              {text: `default_network = "proof"`, see: func(s *scene) any { return s.c.Attachments[0].Network }, want: "proof"},
	"network.default_rootless_network_cmd": {text: "default_rootless_network_cmd = \"slirp4netns\"\n[engine]\nhelper_binaries_dir = [\"DIR/bin\"]", user: true, see: func(s *scene) any { return s.e.userMode() }, want: "slirp4netns"},
	"network.default_subnet":               {text: `default_subnet = "10.99.0.0/24"`, see: func(s *scene) any { return s.e.builtinNetwork().Subnets[0].Subnet }, want: "10.99.0.0/24"},
	"network.default_subnet_pools":         {text: `default_subnet_pools = [{base = "10.98.0.0/16", size = 28}]`, see: func(s *scene) any { return s.newSubnet() }, want: "10.98.0.0/28"},
	"network.pasta_options":                {text: "pasta_options = [\"--mtu\", \"1400\"]\n[engine]\nhelper_binaries_dir = [\"DIR/bin\"]", user: true, see: func(s *scene) any { return s.connects("pasta", "1400") }, want: "true"},
}

// TestKeysAct has a proof for every key that is said to act, and none for
// another.
func TestKeysAct(t *testing.T) {
	needRoot(t)
	for name, use := range config.Keys() {
		if p, there := proofs[name]; there != (use == config.Acts) {
			t.Errorf("%s: a use %d, and a proof that it acts: %v", name, use, p)
		}
	}
	t.Setenv("PROOF_OF_ENV", "1")
	t.Setenv("http_proxy", "http://proof")
	for _, name := range []string{"ftp_proxy", "TMPDIR"} { // set by [engine] env; goes before image_copy_tmp_dir
		t.Setenv(name, "")
		_ = os.Unsetenv(name)
	}
	for name, p := range proofs {
		t.Run(name, func(t *testing.T) {
			table, key, _ := strings.Cut(name, ".")
			if p.test != "" {
				if text, err := testText(p.test); err != nil || !regexp.MustCompile(key+`\s*=`).MatchString(text) {
					t.Errorf("%s does not set it: %v", p.test, err)
				}
				return
			}
			text := p.text
			if !strings.HasPrefix(text, "[") {
				text = "[" + table + "]\n" + text
			}
			with := newScene(t, text, p.user)
			if got, want := fmt.Sprint(p.see(with)), strings.ReplaceAll(p.want, "DIR", with.dir); got != want {
				t.Errorf("%s\nshows %q, want %q", text, got, want)
			}
			_ = os.Unsetenv("ftp_proxy")
			without := newScene(t, "", p.user)
			if got, shown := p.without(without), strings.ReplaceAll(p.want, "DIR", without.dir); got == shown {
				t.Errorf("without it there is %q all the same", got)
			}
		})
	}
}

// testText is a script, or a test of a file with others.
func testText(place string) (string, error) {
	name, test, one := strings.Cut(place, "#")
	data, err := os.ReadFile(name)
	if err != nil || !one {
		return string(data), err
	}
	_, text, found := strings.Cut(string(data), "\nfunc "+test+"(")
	if !found {
		return "", errors.New("there is no such test")
	}
	text, _, _ = strings.Cut(text, "\n}\n")
	return text, nil
}

// TestToldOnce: what a file sets and cove has no use for, and a journal that is
// not there, are told of by the first container, in one line each, and by info.
func TestToldOnce(t *testing.T) {
	needRoot(t)
	s := newScene(t, "[engine]\ninfra_image = \"x\"\nevents_logger = \"journald\"\n[machine]\ncpus = 7\n", false)
	file := filepath.Join(s.dir, "containers.conf")
	want := []string{"cove has no use for engine.infra_image (" + file + ":2), machine.cpus (" + file + ":5)"}
	if !journal.Present() {
		want = append(want, "there is no journal on this host, so events go to files")
	}
	if !slices.Equal(s.warnings, want) {
		t.Errorf("warnings %q, want %q", s.warnings, want)
	}
	_, again, err := s.e.Create(t.Context(), cove.ContainerSpec{Rootfs: s.dir + "/root", Command: []string{"true"}}, CreateOptions{})
	if err != nil || len(again) > 0 {
		t.Errorf("the second time: %q, %v", again, err)
	}
	i, err := s.e.Info(t.Context())
	if err != nil || len(i.Host.UnusedSettings) != 2 {
		t.Errorf("info: %v, %v", i, err)
	}
}

// managerProof asks for the cgroup manager that is not the machine's own.
func managerProof() proof {
	if exists("/run/systemd/system") {
		return proof{text: `cgroup_manager = "cgroupfs"`, see: func(s *scene) any { return s.c.CgroupManager }, want: "cgroupfs"}
	}
	return proof{text: `cgroup_manager = "systemd"`, see: func(s *scene) any { return len(s.warnings) }, want: "1"}
}

// An administrator's profile is never passed over for ours.
func TestSeccompFile(t *testing.T) {
	for path, want := range map[string]string{"": "", "/usr/share/containers/seccomp.json": "", "/etc/containers/seccomp.json": "/etc/containers/seccomp.json", "unconfined": "unconfined"} {
		if got := seccompFile(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

// TestStorageOptions: what storage.conf says of containers' own layers.
func TestStorageOptions(t *testing.T) {
	storage := filepath.Join(t.TempDir(), "storage.conf")
	t.Setenv("CONTAINERS_CONF", os.DevNull)
	t.Setenv("CONTAINERS_STORAGE_CONF", storage)
	for _, c := range []struct{ text, options, refused string }{
		{"", "[redirect_dir=nofollow volatile]", ""},
		{"[storage.options]\ndisable-volatile = true\n", "[redirect_dir=nofollow]", ""},
		{"[storage.options.overlay]\nmountopt = \"nodev\"\n", "[redirect_dir=nofollow volatile]", ""},
		{"[storage.options.overlay]\nmountopt = \"nodev,metacopy=on,xino=off\"\n", "[redirect_dir=nofollow volatile]", ""},
		{"[storage.options.overlay]\nmountopt = \"metacopy=on,nodve\"\n", "", "nodve"},
		{"[storage.options]\nmountopt = \"ro\"\n", "", "ro"},
		{"[storage.options.overlay]\nmountopt = \"squash_to_root\"\nmount_program = \"/bin/true\"\n", "[redirect_dir=nofollow volatile]", ""},
		{"[storage.options.overlay]\nsize = \"1g\"\n", "", "size=1g"},
		{"[storage.options.overlay]\ninodes = \"9\"\n", "", "inodes=9"},
	} {
		mustWrite(t, storage, "[storage]\ndriver = \"overlay\"\n"+c.text)
		conf, err := config.Load(config.Overrides{GraphRoot: t.TempDir(), RunRoot: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		d := &draft{e: New(conf, Parts{}), c: &cove.Container{Spec: cove.ContainerSpec{Remove: true}}}
		if c.refused != "" {
			wantKind(t, d.supported(), cove.Unsupported, c.refused)
			continue
		}
		o := d.e.overlay(d.c)
		if got := fmt.Sprint(o.Options); got != c.options {
			t.Errorf("%s: %s, want %s", c.text, got, c.options)
		}
		if nodev := o.Flags != 0; nodev != strings.Contains(c.text, "nodev") {
			t.Errorf("%s: flags %d", c.text, o.Flags)
		}
	}
}

// without is what is seen without the key; what is not even there is something
// else, too.
func (p *proof) without(s *scene) (got string) {
	defer func() {
		if r := recover(); r != nil {
			got = fmt.Sprint(r)
		}
	}()
	return fmt.Sprint(p.see(s))
}

func newScene(t *testing.T, text string, user bool) *scene {
	t.Helper()
	s := &scene{dir: t.TempDir(), rooms: &fakeRooms{}}
	for _, name := range []string{"program", "conmon", "bin/pasta", "bin/slirp4netns", "bin/monitor", "bin/runtime"} {
		mustWrite(t, filepath.Join(s.dir, name), "#!/bin/sh\necho conmon version 2.1.6\n")
		if err := os.Chmod(filepath.Join(s.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mustWrite(t, filepath.Join(s.dir, "root/proof/file"), "of the image")
	mustWrite(t, filepath.Join(s.dir, "hosts"), "192.0.2.5 from.base\n")
	mustWrite(t, filepath.Join(s.dir, "profile.json"), `{"defaultAction":"SCMP_ACT_ALLOW"}`)
	mustWrite(t, filepath.Join(s.dir, "containers.conf"), strings.ReplaceAll(text, "DIR", s.dir))
	t.Setenv("CONTAINERS_CONF", filepath.Join(s.dir, "containers.conf"))
	t.Setenv("CONTAINERS_STORAGE_CONF", os.DevNull)
	conf, err := config.Load(config.Overrides{GraphRoot: s.dir + "/graph", RunRoot: s.dir + "/run", Rootless: user})
	if err != nil {
		t.Fatal(err)
	}
	e := New(conf, Parts{
		Store: memory.Open(), Locks: file.New(conf.Locks()), Images: &s.rooms.images, Networks: &s.rooms.networks, Events: &s.rooms.events,
		Beside:  func() (state.Store, error) { return memory.Open(), nil },
		Monitor: func() (string, error) { return s.dir + "/bin/monitor", nil },
		Runtime: func() (string, error) { return s.dir + "/bin/runtime", nil },
		CDI:     func(_ *specs.Spec, dirs, _ []string) (map[string]string, error) { s.dirs = dirs; return nil, nil },
	})
	if err := e.prepareHome(); err != nil {
		t.Fatal(err)
	}
	s.launch = &launch{e: e, netns: -1}
	if user { // his containers take more of the machine than a test has
		return s
	}
	defaults, err := e.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	spec := defaults.Spec
	spec.HostEnv = HostEnv(defaults.Environ(os.Environ()), defaults.EnvHost, defaults.HTTPProxy)
	spec.Name, spec.Rootfs, spec.Command = "proof", s.dir+"/root", []string{"true"}
	spec.Ports = []cove.PortMapping{{ContainerPort: 80, HostPort: freePort(t), Range: 1, Protocol: "tcp"}}
	id, warnings, err := e.Create(t.Context(), spec, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	now, err := e.Container(t.Context(), id, false)
	if err != nil {
		t.Fatal(err)
	}
	s.inspect, s.c, s.warnings = now.Inspect(), &now.Container, warnings
	if err := s.describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.closeFiles)
	return s
}

func freePort(t *testing.T) uint16 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func has(list []string, entry string) bool { return slices.Contains(list, entry) }

// line is the first one of text that begins so.
func line(text, begin string) string {
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, begin) {
			return strings.TrimSpace(l)
		}
	}
	return ""
}

func (s *scene) hosts() string {
	text, err := s.e.hosts(s.c, "none", "proof")
	if err != nil {
		return err.Error()
	}
	return text
}

func (s *scene) resolvConf() string { return s.e.resolvConf(s.c, "bridge", nil) }

// source is what is mounted at a place.
func (s *scene) source(destination string) string {
	for _, m := range s.spec.Mounts {
		if m.Destination == destination {
			return m.Source
		}
	}
	return ""
}

func (s *scene) namespace(kind string) bool {
	for _, n := range s.spec.Linux.Namespaces {
		if string(n.Type) == kind {
			return true
		}
	}
	return false
}

// filled tells whether a volume waits for nothing any more.
func (s *scene) filled(name string) bool {
	v, err := s.e.Volume(context.Background(), name)
	return err == nil && !v.NeedsCopyUp
}

// reserved counts the sockets that hold the container's ports.
func (s *scene) reserved() int {
	if err := s.reservePorts(); err != nil {
		return -1
	}
	return len(s.files)
}

// cdiDirs are where CDI devices are looked for.
func (s *scene) cdiDirs() []string {
	s.extra.CDI = []string{"proof.test/device=1"}
	if err := s.addDevices(); err != nil {
		return []string{err.Error()}
	}
	return s.dirs
}

// imageVolume is what a volume of an image's becomes.
func (s *scene) imageVolume() string {
	d := &draft{e: s.e, c: &cove.Container{Image: cove.ImageConfig{Volumes: []string{"/data"}}}}
	if err := d.mounts(); err != nil {
		return err.Error()
	}
	return d.c.Mounts[0].Type
}

// planned is what init is told of the process.
func (s *scene) planned() (p plan.Process) {
	if err := s.writePlan(nil); err != nil {
		return plan.Process{Cwd: err.Error()}
	}
	data, err := os.ReadFile(filepath.Join(s.e.dir(s.c.ID), "plan"))
	if err == nil {
		err = json.Unmarshal(data, &struct{ Process *plan.Process }{&p})
	}
	if err != nil {
		p.Cwd = err.Error()
	}
	return p
}

// pulls tells whether an image that is there is asked for elsewhere.
func (s *scene) pulls() bool {
	_, err := s.e.resolveImage(context.Background(), &cove.ContainerSpec{Image: "there"}, CreateOptions{})
	return cove.Is(err, cove.Unavailable)
}

// connects tells whether a program that connects a container gets an argument.
func (s *scene) connects(program, argument string) bool {
	u, err := s.e.uplinkBy(program, "", nil, "/netns", "/socket")
	return err == nil && has(u.Args, argument)
}

func (s *scene) newSubnet() string {
	n, err := s.e.CreateNetwork(context.Background(), cove.Network{Name: "new"}, false)
	if err != nil {
		return err.Error()
	}
	return n.Subnets[0].Subnet.String()
}
