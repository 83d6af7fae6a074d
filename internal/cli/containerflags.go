package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/mount"
)

// containerFlags are the flags that describe a container: run's and create's.
// Values are as written; spec reads them.
type containerFlags struct {
	set func(name string) bool

	spec cove.ContainerSpec // fields that flags write straight into

	addHosts, annotations, attach, capAdd, capDrop             []string
	devices, deviceRules, gpus, dns, dnsOptions, dnsSearch     []string
	env, envFiles, expose, groups, labels, labelFiles          []string
	logOpts, mounts, networkAliases, networks, publish         []string
	securityOpts, sysctls, tmpfs, ulimits, unsetEnv            []string
	volumes, volumesFrom, cgroupConf, envMerge, requires       []string
	arch, os, variant, platform, entrypoint                    string
	ip, ip6, mac, imageVolume                                  string
	restart, shmSize, authFile, pull, userNS                   string
	detachKeys                                                 keySequence
	health                                                     healthFlags
	limits                                                     limitFlags
	preserve                                                   preserveFlags
	oomScoreAdj                                                int
	stopTimeout                                                uint
	detach, envHost, httpProxy, passwd, quiet, replace, rootfs bool
	sigProxy, tlsVerify, rmi                                   bool
	retry                                                      retryFlags
}

// flags declares the flags on fs; run adds those that only a start needs.
func (o *containerFlags) flags(fs *pflag.FlagSet, run bool) {
	s := &o.spec
	o.set = fs.Changed
	o.limits.flags(fs)
	fs.SetInterspersed(false)
	fs.SetNormalizeFunc(oldNames) // first: set last it would file every flag again

	sliceVar(fs, &o.addHosts, "add-host", "", "Add a custom host-to-IP mapping (hostname:ip)")
	arrayVar(fs, &o.annotations, "annotation", "", "Add annotations to container (key=value)")
	fs.StringVar(&o.arch, "arch", "", "use `ARCH` instead of the architecture of the machine for choosing images")
	sliceVar(fs, &o.attach, "attach", "a", "Attach to STDIN, STDOUT or STDERR")
	fs.StringVar(&o.authFile, "authfile", "", "Path of the authentication file. Use REGISTRY_AUTH_FILE environment variable to override")
	sliceVar(fs, &o.capAdd, "cap-add", "", "Add capabilities to the container")
	sliceVar(fs, &o.capDrop, "cap-drop", "", "Drop capabilities from the container")
	fs.StringVar(&s.CgroupParent, "cgroup-parent", "", "Optional parent cgroup for the container")
	fs.StringVar(&s.Cgroups, "cgroups", "", `Control container cgroup configuration ("enabled"|"disabled"|"no-conmon"|"split")`)
	sliceVar(fs, &o.cgroupConf, "cgroup-conf", "", "Configure cgroup v2 (key=value)")
	fs.StringVar(&s.CgroupNS, "cgroupns", "", "cgroup namespace to use")
	fs.StringVar(&s.CIDFile, "cidfile", "", "Write the container ID to the file")
	fs.StringVar(&s.ConmonPidFile, "conmon-pidfile", "", "Path to the file that will receive the PID of the monitor")
	sliceVar(fs, &o.devices, "device", "", "Add a host device to the container")
	sliceVar(fs, &o.gpus, "gpus", "", "GPU devices to add to the container ('all' to pass all GPUs)")
	sliceVar(fs, &o.deviceRules, "device-cgroup-rule", "", "Add a rule to the cgroup allowed devices list")
	sliceVar(fs, &o.dns, "dns", "", "Set custom DNS servers")
	sliceVar(fs, &o.dnsOptions, "dns-option", "", "Set custom DNS options")
	sliceVar(fs, &o.dnsSearch, "dns-search", "", "Set custom DNS search domains")
	fs.StringVar(&o.entrypoint, "entrypoint", "", "Overwrite the default ENTRYPOINT of the image")
	arrayVar(fs, &o.env, "env", "e", "Set environment variables in container")
	arrayVar(fs, &o.envFiles, "env-file", "", "Read in a file of environment variables")
	arrayVar(fs, &o.envMerge, "env-merge", "", "Preprocess environment variables from image before injecting them into the container")
	fs.BoolVar(&o.envHost, "env-host", false, "Use all current host environment variables in container")
	sliceVar(fs, &o.expose, "expose", "", "Expose a port or a range of ports")
	fs.StringVar(&s.GroupEntry, "group-entry", "", "Entry to write to /etc/group")
	sliceVar(fs, &o.groups, "group-add", "", "Add additional groups to the primary container process")
	o.health.flags(fs)
	fs.StringVar(&s.HostsFile, "hosts-file", "", `Base file to create the /etc/hosts file inside the container, or one of the special values. ("image"|"none")`)
	arrayVar(fs, &s.HostUsers, "hostuser", "", "Host user account to add to /etc/passwd within container")
	fs.StringVarP(&s.Hostname, "hostname", "h", "", "Set container hostname")
	fs.BoolVar(&o.httpProxy, "http-proxy", true, "Set proxy environment variables in the container based on the host proxy vars")
	fs.StringVar(&o.imageVolume, "image-volume", "", `Tells cove how to handle the builtin image volumes ("anonymous"|"tmpfs"|"ignore")`)
	fs.BoolVar(&s.Init, "init", false, "Run an init binary inside the container that forwards signals and reaps processes")
	fs.StringVar(&s.InitPath, "init-path", "", "Path to the container-init binary")
	fs.BoolVarP(&s.Stdin, "interactive", "i", false, "Make STDIN available to the contained process")
	fs.StringVar(&o.ip, "ip", "", "Specify a static IPv4 address for the container")
	fs.StringVar(&o.ip6, "ip6", "", "Specify a static IPv6 address for the container")
	fs.StringVar(&s.IPC, "ipc", "", "IPC namespace to use")
	arrayVar(fs, &o.labels, "label", "l", "Set metadata on container")
	arrayVar(fs, &o.labelFiles, "label-file", "", "Read in a line delimited file of labels")
	fs.StringVar(&s.LogDriver, "log-driver", "", "Logging driver for the container")
	arrayVar(fs, &o.logOpts, "log-opt", "", "Logging driver options")
	fs.StringVar(&o.mac, "mac-address", "", "Container MAC address (e.g. 92:d0:c6:0a:29:33)")
	arrayVar(fs, &o.mounts, "mount", "", "Attach a filesystem mount to the container")
	fs.StringVar(&s.Name, "name", "", "Assign a name to the container")
	arrayVar(fs, &o.networks, "network", "", "Connect a container to a network")
	sliceVar(fs, &o.networkAliases, "network-alias", "", "Add network-scoped alias for the container")
	fs.BoolVar(&s.NoHostname, "no-hostname", false, "Do not create /etc/hostname within the container, instead use the version from the image")
	fs.BoolVar(&s.NoHosts, "no-hosts", false, "Do not create /etc/hosts within the container, instead use the version from the image")
	fs.BoolVar(&s.Resources.OOMKillDisable, "oom-kill-disable", false, "Disable OOM Killer")
	fs.IntVar(&o.oomScoreAdj, "oom-score-adj", 0, "Tune the host's OOM preferences (-1000 to 1000)")
	fs.StringVar(&o.os, "os", "", "use `OS` instead of the running OS for choosing images")
	fs.BoolVar(&o.passwd, "passwd", true, "add entries to /etc/passwd and /etc/group")
	fs.StringVar(&s.PasswdEntry, "passwd-entry", "", "Entry to write to /etc/passwd")
	fs.StringVar(&s.PID, "pid", "", "PID namespace to use")
	fs.StringVar(&s.PidFile, "pidfile", "", "Write the container process ID to the file")
	fs.StringVar(&o.platform, "platform", "", "Specify the platform for selecting the image.  (Conflicts with --arch and --os)")
	fs.BoolVar(&s.Privileged, "privileged", false, "Give extended privileges to container")
	sliceVar(fs, &o.publish, "publish", "p", "Publish a container's port, or a range of ports, to the host")
	fs.BoolVarP(&s.PublishAll, "publish-all", "P", false, "Publish all exposed ports to random ports on the host interface")
	fs.StringVar(&o.pull, "pull", "missing", `Pull image policy ("always"|"missing"|"never"|"newer")`)
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress output information when pulling images")
	fs.BoolVar(&s.ReadOnly, "read-only", false, "Make containers root filesystem read-only")
	fs.BoolVar(&s.ReadOnlyTmpfs, "read-only-tmpfs", true, "When running --read-only containers mount read-write tmpfs on /run, /tmp and /var/tmp")
	fs.BoolVar(&o.replace, "replace", false, "If a container with the same name exists, replace it")
	sliceVar(fs, &o.requires, "requires", "", "Add one or more requirement containers that must be started before this container will start")
	o.retry.flags(fs)
	fs.StringVar(&o.restart, "restart", "", `Restart policy to apply when a container exits ("always"|"no"|"never"|"on-failure"|"unless-stopped")`)
	fs.BoolVar(&s.Remove, "rm", false, "Remove container after exit")
	fs.BoolVar(&o.rootfs, "rootfs", false, "The first argument is not an image but the rootfs to the exploded container")
	fs.StringVar(&s.SDNotify, "sdnotify", "", `when to tell systemd, at NOTIFY_SOCKET, that the container is ready ("conmon"|"healthy"|"ignore")`)
	arrayVar(fs, &o.securityOpts, "security-opt", "", "Security Options")
	fs.StringVar(&o.shmSize, "shm-size", "", "Size of /dev/shm (format: `<number>[<unit>]`, where unit = b (bytes), k (kibibytes), m (mebibytes), or g (gibibytes))")
	fs.StringVar(&s.StopSignal, "stop-signal", "", "Signal to stop a container. Default is SIGTERM")
	fs.UintVar(&o.stopTimeout, "stop-timeout", 10, "Timeout (in seconds) that containers stopped by user command have to exit. If exceeded, the container will be forcibly stopped via SIGKILL.")
	sliceVar(fs, &o.sysctls, "sysctl", "", "Sysctl options")
	fs.UintVar(&s.Timeout, "timeout", 0, "Maximum length of time a container is allowed to run. The container will be killed automatically after the time expires.")
	fs.BoolVar(&o.tlsVerify, "tls-verify", true, "Require HTTPS and verify certificates when contacting registries for pulling images")
	fs.StringVar(&s.Systemd, "systemd", "", `Run container in systemd mode ("true"|"false"|"always"). Default is true`)
	arrayVar(fs, &o.tmpfs, "tmpfs", "", "Mount a temporary filesystem (`tmpfs`) into a container")
	fs.BoolVarP(&s.Terminal, "tty", "t", false, "Allocate a pseudo-TTY for container")
	fs.StringVar(&s.Timezone, "tz", "", "Set timezone in container")
	sliceVar(fs, &o.ulimits, "ulimit", "", "Ulimit options")
	fs.StringVar(&s.Umask, "umask", "", "Set umask in container")
	arrayVar(fs, &o.unsetEnv, "unsetenv", "", "Unset environment default variables in container")
	fs.BoolVar(&s.UnsetEnvAll, "unsetenv-all", false, "Unset all default environment variables in container")
	fs.StringVarP(&s.User, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	fs.StringVar(&o.userNS, "userns", "", "User namespace to use")
	fs.StringVar(&s.UTS, "uts", "", "UTS namespace to use")
	fs.StringVar(&o.variant, "variant", "", "Use `VARIANT` instead of the running architecture variant for choosing images")
	arrayVar(fs, &o.volumes, "volume", "v", "Bind mount a volume into the container")
	arrayVar(fs, &o.volumesFrom, "volumes-from", "", "Mount volumes from the specified container(s)")
	fs.StringVarP(&s.WorkDir, "workdir", "w", "", "Working directory inside the container")
	if run {
		fs.BoolVarP(&o.detach, "detach", "d", false, "Run container in background and print container ID")
		fs.Var(&o.detachKeys, "detach-keys", "Override the key sequence for detaching a container. Format is a single character [a-Z] or a comma separated sequence of `ctrl-<value>`")
		o.preserve.flags(fs)
		fs.BoolVar(&o.rmi, "rmi", false, "Remove image unless used by other containers, implies --rm")
		fs.BoolVar(&o.sigProxy, "sig-proxy", true, "Proxy received signals to the process")
	}
	fs.Bool("disable-content-trust", false, "This is a Docker specific option and is a NOOP")
	fs.Lookup("disable-content-trust").Hidden = true
	refuse(fs, unsupportedContainerFlags())
}

// oldNames are podman's and docker's other names of flags.
func oldNames(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "net":
		name = "network"
	case "net-alias":
		name = "network-alias"
	case "dns-opt":
		name = "dns-option"
	case "healthcheck-command":
		name = "health-cmd"
	case "healthcheck-interval", "healthcheck-retries", "healthcheck-start-period", "healthcheck-timeout":
		name = "health-" + strings.TrimPrefix(name, "healthcheck-")
	case "override-arch", "override-os", "override-variant":
		name = strings.TrimPrefix(name, "override-")
	case "no-headings", "notruncate":
		name = map[string]string{"no-headings": "noheading", "notruncate": "no-trunc"}[name]
	}
	return pflag.NormalizedName(name)
}

// unsupportedContainerFlags are podman's and docker's other flags of run and
// create.
func unsupportedContainerFlags() []unsupported {
	list := []unsupported{
		{name: "link"}, {name: "isolation", accept: []string{"default"}},
	}
	for name := range strings.FieldsSeq(`
		cert-dir chrootdirs cpu-count cpu-percent creds
		decryption-key domainname
		gidmap
		health-start-interval init-ctr intel-rdt-closid io-maxbandwidth io-maxiops kernel-memory
		link-local-ip personality pod pod-id-file rdt-class
		seccomp-policy secret shm-size-systemd signature-policy storage-opt
		subgidname subuidname uidmap volume-driver volume-opt`) {
		list = append(list, unsupported{name: name})
	}
	return append(list, unsupported{name: "use-api-socket", bool: true})
}

// request turns flags and arguments into the container that they describe.
// It opens nothing but the files that flags name.
func (o *containerFlags) request(in surroundings, args []string) (cove.ContainerSpec, error) {
	s := o.spec
	if err := o.scalars(&s); err != nil {
		return s, err
	}
	steps := [...]func(*cove.ContainerSpec, surroundings) error{
		o.image, o.process, o.files, o.security, o.network, o.resources, o.lifetime,
	}
	for _, step := range steps {
		if err := step(&s, in); err != nil {
			return s, err
		}
	}
	if o.rootfs {
		dir, opt, has := strings.Cut(args[0], ":")
		if has && opt != "O" {
			return s, fmt.Errorf("invalid --rootfs option %q: only :O is supported", opt)
		}
		s.Rootfs, s.RootfsOverlay = dir, has
		if err := in.abs(&s.Rootfs); err != nil {
			return s, err
		}
	} else {
		s.Image = args[0]
	}
	if len(args) > 1 {
		s.Command = args[1:]
	}
	return s, nil
}

// configured lays containers.conf under s.
func (o *containerFlags) configured(s *cove.ContainerSpec, in surroundings, d engine.Defaults) {
	for _, b := range []struct {
		flag string
		to   *bool
		conf bool
	}{
		{"init", &s.Init, d.Spec.Init}, {"privileged", &s.Privileged, d.Spec.Privileged}, {"read-only", &s.ReadOnly, d.Spec.ReadOnly},
		{"no-hosts", &s.NoHosts, d.Spec.NoHosts},
	} {
		if !o.set(b.flag) {
			*b.to = b.conf
		}
	}
	s.DefaultMounts = d.Spec.DefaultMounts
	env := d.Environ(in.env)
	// What a flag passes on goes before the image's variables, what the file
	// does behind them.
	host, proxy := o.set("env-host"), o.set("http-proxy")
	s.Env = append(engine.HostEnv(env, host && o.envHost, proxy && o.httpProxy), s.Env...)
	s.HostEnv = engine.HostEnv(env, !host && d.EnvHost, !proxy && d.HTTPProxy)
}

// scalars checks single values.
func (o *containerFlags) scalars(s *cove.ContainerSpec) error {
	s.Name = strings.TrimPrefix(s.Name, "/") // as docker writes it
	if s.Name != "" && !validName(s.Name) {
		return fmt.Errorf("running container create option: %w", errName)
	}
	if o.set("name") && s.Name == "" && o.replace {
		return errors.New("cannot replace container without --name being set")
	}
	if o.replace && s.Name == "" {
		return errors.New("cannot replace container without --name being set")
	}
	if s.NoHosts && s.HostsFile != "" {
		return errors.New("--no-hosts and --hosts-file cannot be set together")
	}
	if s.NoHosts && len(o.addHosts) > 0 {
		return errors.New("--no-hosts and --add-host cannot be set together")
	}
	switch o.imageVolume {
	case "": // containers.conf's
	case "anonymous", "bind":
		s.ImageVolumes = "anonymous"
	case "tmpfs", "ignore":
		s.ImageVolumes = o.imageVolume
	default:
		return fmt.Errorf("invalid image-volume type %q. Pick one of bind, tmpfs, or anonymous", o.imageVolume)
	}
	if s.Umask != "" {
		if n, err := strconv.ParseUint(s.Umask, 8, 16); err != nil || n > 0o7777 {
			return fmt.Errorf("running container create option: invalid umask string %s: invalid argument", s.Umask)
		}
	}
	if s.WorkDir != "" && !strings.HasPrefix(s.WorkDir, "/") {
		return coded(exitNotExecutable, fmt.Errorf("the working directory %q is invalid, it needs to be an absolute path", s.WorkDir))
	}
	for _, a := range o.attach {
		switch strings.ToLower(a) {
		case "stdin", "stdout", "stderr":
		default:
			return fmt.Errorf("invalid stream %q for --attach - must be one of stdin, stdout, or stderr: invalid argument", a)
		}
	}
	return nil
}

var errName = errors.New("names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument")

// validName reports whether name may name a container, volume or network.
func validName(name string) bool {
	ok, _ := regexp.MatchString(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`, name)
	return ok
}

func (o *containerFlags) image(s *cove.ContainerSpec, _ surroundings) error {
	switch p := strings.ToLower(o.pull); p {
	case "always", "missing", "never", "newer":
		s.Pull = p
	case "ifnotpresent", "":
		s.Pull = "missing"
	case "ifnewer":
		s.Pull = "newer"
	case "true":
		s.Pull = "always"
	case "false":
		s.Pull = "never"
	default:
		return fmt.Errorf("unsupported pull policy %q", o.pull)
	}
	if !o.set("pull") {
		s.Pull = ""
	}
	var err error
	s.Platform, err = (&platformFlags{platform: o.platform, os: o.os, arch: o.arch, variant: o.variant}).value()
	return err
}

func (o *containerFlags) process(s *cove.ContainerSpec, in surroundings) error {
	var err error
	if s.Env, err = in.environment(o.envFiles, o.env); err != nil {
		return err
	}
	s.UnsetEnv, s.EnvMerge, s.NoPasswd = o.unsetEnv, o.envMerge, !o.passwd
	for _, e := range o.envMerge {
		if !strings.Contains(e, "=") {
			return fmt.Errorf("missing `=` for --env-merge substitution %s", e)
		}
	}
	if o.set("entrypoint") {
		s.EntrypointSet, s.Entrypoint = true, words(o.entrypoint)
	}
	if s.Groups = o.groups; slices.Contains(s.Groups, "keep-groups") {
		if len(s.Groups) > 1 {
			return errors.New("the '--group-add keep-groups' option is not allowed with any other --group-add options")
		}
		s.Groups = nil
	}
	if s.Labels, err = in.labels(o.labelFiles, o.labels); err != nil {
		return err
	}
	for _, kv := range in.env {
		if unit, ok := strings.CutPrefix(kv, engine.UnitLabel+"="); ok {
			if s.Labels == nil {
				s.Labels = map[string]string{}
			}
			s.Labels[engine.UnitLabel] = unit
		}
	}
	for _, a := range o.annotations {
		if !strings.Contains(a, "=") {
			return errors.New("annotations must be formatted KEY=VALUE")
		}
	}
	s.Annotations, err = keyValues(o.annotations, func(string) error {
		return errors.New("annotations must be formatted KEY=VALUE")
	})
	if err == nil && slices.Contains(o.groups, "keep-groups") {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[cove.KeepGroups] = "1"
	}
	return err
}

func (o *containerFlags) files(s *cove.ContainerSpec, in surroundings) error {
	var err error
	if s.Mounts, err = mount.Parse(in.workDir, o.volumes, o.mounts, o.tmpfs); err != nil {
		return err
	}
	s.VolumesFrom = o.volumesFrom
	if err := mount.CheckFrom(o.volumesFrom); err != nil {
		return err
	}
	devices := o.devices
	for _, gpu := range o.gpus {
		devices = append(devices, "nvidia.com/gpu="+gpu)
	}
	for _, d := range devices {
		if d == "" {
			continue
		}
		dev, err := parseDevice(d)
		if err != nil {
			return err
		}
		s.Devices = append(s.Devices, dev)
	}
	s.DeviceCgroupRules = o.deviceRules
	files := []*string{&s.CIDFile, &s.PidFile, &s.ConmonPidFile}
	if s.HostsFile != "image" && s.HostsFile != "none" {
		files = append(files, &s.HostsFile)
	}
	for _, f := range files {
		if *f != "" {
			if err := in.abs(f); err != nil {
				return err
			}
		}
	}
	return checkDeviceRules(o.deviceRules)
}

func (o *containerFlags) security(s *cove.ContainerSpec, in surroundings) error {
	s.CapAdd, s.CapDrop = o.capAdd, o.capDrop
	for _, ns := range []struct {
		value string
		more  []string
	}{{s.PID, nil}, {s.IPC, []string{"shareable", "none"}}, {s.UTS, nil}, {s.CgroupNS, nil}} {
		if err := checkNamespace(ns.value, ns.more...); err != nil {
			return err
		}
	}
	if s.UserNS = o.userNS; s.UserNS == "" {
		s.UserNS, _ = in.lookup("PODMAN_USERNS")
	}
	if err := checkUserNS(s.UserNS); err != nil {
		return err
	}
	return in.parseSecurity(s, o.securityOpts)
}

func (o *containerFlags) network(s *cove.ContainerSpec, _ surroundings) error {
	f := networkFlags{networks: o.networks, aliases: o.networkAliases, aliasSet: o.set("network-alias"), ip: o.ip, ip6: o.ip6, mac: o.mac}
	if err := f.spec(s); err != nil {
		return err
	}
	var err error
	if s.Ports, err = parsePublishes(o.publish); err != nil {
		return err
	}
	s.Expose = o.expose
	if err := checkExpose(o.expose); err != nil {
		return err
	}
	if s.AddHosts, err = checkAddHosts(o.addHosts); err != nil {
		return err
	}
	if len(s.AddHosts) > 0 && strings.HasPrefix(s.Network, "container:") {
		return errors.New("invalid config provided: cannot set extra host entries when the container is joined to another containers network namespace: invalid configuration")
	}
	s.DNS, s.DNSSearch, s.DNSOptions = o.dns, o.dnsSearch, o.dnsOptions
	if len(o.dns) > 0 && (s.Network == "none" || strings.HasPrefix(s.Network, "container:")) {
		mode, _, _ := strings.Cut(s.Network, ":")
		return fmt.Errorf("conflicting options: dns and the network mode: %s", mode)
	}
	return checkDNS(o.dns)
}

func (o *containerFlags) resources(s *cove.ContainerSpec, _ surroundings) error {
	if err := o.limits.apply(&s.Resources); err != nil {
		return err
	}
	var err error
	errCgroupConf := errors.New("--cgroup-conf must be formatted KEY=VALUE")
	if slices.ContainsFunc(o.cgroupConf, func(v string) bool { return !strings.Contains(v, "=") }) {
		return errCgroupConf
	}
	if s.Resources.CgroupConf, err = keyValues(o.cgroupConf, func(string) error { return errCgroupConf }); err != nil {
		return err
	}
	if o.set("oom-score-adj") {
		if o.oomScoreAdj < -1000 || o.oomScoreAdj > 1000 {
			return fmt.Errorf("invalid value for oom-score-adj: %d is not between -1000 and 1000", o.oomScoreAdj)
		}
		s.OOMScoreAdj = &o.oomScoreAdj
	}
	if o.shmSize != "" {
		size, err := bytesOf("shm-size", o.shmSize)
		if err != nil {
			return fmt.Errorf("unable to translate --shm-size: %w", errors.Unwrap(err))
		}
		if s.IPC == "host" || strings.HasPrefix(s.IPC, "container:") {
			return fmt.Errorf("cannot set shmsize when running in the %s IPC namespace", s.IPC)
		}
		s.ShmSize = &size
	}
	for _, u := range o.ulimits {
		l, err := parseUlimit(u)
		if err != nil {
			return err
		}
		s.Ulimits = append(s.Ulimits, l)
	}
	for _, v := range o.sysctls {
		if k, _, ok := strings.Cut(v, "="); !ok || k == "" {
			return fmt.Errorf("%s is invalid, sysctl values must be in the form of KEY=VALUE", v)
		}
	}
	s.Sysctl, err = keyValues(o.sysctls, func(v string) error { return fmt.Errorf("%s is invalid", v) })
	return err
}

func (o *containerFlags) lifetime(s *cove.ContainerSpec, in surroundings) error {
	s.Requires = o.requires
	switch s.SDNotify {
	case "", "ignore":
	case "conmon", "healthy":
		s.SDNotifySocket, _ = in.lookup("NOTIFY_SOCKET")
	case "container":
		return &refusedError{"sdnotify", "container"}
	default:
		return fmt.Errorf("invalid config provided: invalid argument: invalid sdnotify value %q: must be conmon, container, healthy or ignore", s.SDNotify)
	}
	if o.rmi && !o.set("rm") {
		s.Remove = true
	}
	if o.rmi && !s.Remove {
		return errors.New("the --rmi option does not work without --rm")
	}
	if o.rmi && o.detach { // nobody would be there to remove it
		return errors.New("--rmi with --detach is not supported by cove yet")
	}
	var err error
	if s.Restart, err = parseRestart(o.restart); err != nil {
		return err
	}
	if s.Remove && s.Restart.Name != "" && s.Restart.Name != "no" && o.restart != "on-failure" {
		return errors.New(`the --rm option conflicts with --restart, when the restartPolicy is not "" and "no"`)
	}
	if o.set("stop-timeout") {
		s.StopTimeout = &o.stopTimeout
	}
	if err := o.health.spec(s); err != nil {
		return err
	}
	for _, l := range o.logOpts {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return fmt.Errorf("invalid log option %q", l)
		}
		switch k {
		case "path":
			s.LogPath = v
			if err := in.abs(&s.LogPath); err != nil {
				return err
			}
			continue
		case "max-size":
			if _, err := units.RAMInBytes(v); err != nil {
				return fmt.Errorf("log option max-size: %w", err)
			}
		}
		if s.LogOpts == nil {
			s.LogOpts = map[string]string{}
		}
		s.LogOpts[k] = v
	}
	return nil
}
