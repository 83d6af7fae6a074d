package config

import (
	"iter"
	"maps"
	"slices"
	"strconv"
)

// Use says what cove does with a key of containers.conf. The file is shared with
// podman, so what cove cannot do is no error where doing without it is safe.
type Use int

const (
	// Acts: as in podman.
	Acts Use = iota + 1
	// Idle: it speaks of what cove does not have or do, so nothing asks for
	// it; or what it chooses has one kind in cove. The makers of containers are
	// told, once per boot, and info lists it.
	Idle
	// Ignored: cove does otherwise than it says. Whoever would have used it is
	// told, once per boot, and info lists it.
	Ignored
	// Refused: doing without it would confine a container less than it says.
	// There are none but SELinux's, which are as Ignored on a host without.
	Refused
)

// What uses a key, for Ignored and Refused.
const (
	byContainers = "containers"
	byNetworks   = "networks"
)

type key struct {
	use Use
	by  string
	// safe tells of a value that is the same as none; nil: no value is.
	safe func(c *Config) bool
}

// keys are all that the library knows, by table and name.
var keys = map[string]key{
	"containers.annotations":                 {use: Acts},
	"containers.apparmor_profile":            {use: Acts},
	"containers.base_hosts_file":             {use: Acts},
	"containers.cgroup_conf":                 {use: Acts},
	"containers.cgroupns":                    {use: Acts},
	"containers.cgroups":                     {use: Acts},
	"containers.container_name_as_hostname":  {use: Acts},
	"containers.default_capabilities":        {use: Acts},
	"containers.default_sysctls":             {use: Acts},
	"containers.default_ulimits":             {use: Acts},
	"containers.devices":                     {use: Acts},
	"containers.dns_options":                 {use: Acts},
	"containers.dns_searches":                {use: Acts},
	"containers.dns_servers":                 {use: Acts},
	"containers.env":                         {use: Acts},
	"containers.env_host":                    {use: Acts},
	"containers.host_containers_internal_ip": {use: Acts},
	"containers.http_proxy":                  {use: Acts},
	"containers.init":                        {use: Acts},
	"containers.init_path":                   {use: Acts},
	"containers.interface_name":              {use: Idle}, // of macvlan and ipvlan
	"containers.ipcns":                       {use: Acts},
	"containers.keyring":                     {use: Acts},
	"containers.label":                       {use: Acts},
	"containers.label_users":                 {Refused, byContainers, func(c *Config) bool { return !c.File.Containers.EnableLabeledUsers }},
	"containers.log_driver":                  {use: Acts},
	"containers.log_path":                    {use: Acts},
	"containers.log_size_max":                {use: Acts},
	"containers.log_tag":                     {use: Acts},
	"containers.mounts":                      {use: Acts},
	"containers.netns":                       {use: Acts},
	"containers.no_hosts":                    {use: Acts},
	"containers.oom_score_adj":               {use: Acts},
	"containers.pidns":                       {use: Acts},
	"containers.pids_limit":                  {use: Acts},
	"containers.prepare_volume_on_create":    {use: Acts},
	"containers.privileged":                  {use: Acts},
	"containers.read_only":                   {use: Acts},
	"containers.seccomp_profile":             {use: Acts},
	"containers.shm_size":                    {use: Acts},
	"containers.tz":                          {use: Acts},
	"containers.umask":                       {use: Acts},
	"containers.userns":                      {use: Acts},
	"containers.userns_size":                 {use: Idle}, // nobody's, says the library
	"containers.utsns":                       {use: Acts},
	"containers.volumes":                     {use: Acts},

	"engine.active_service":                       {use: Idle},
	"engine.add_compression":                      {use: Idle}, // of lists of images
	"engine.cdi_spec_dirs":                        {use: Acts},
	"engine.cgroup_check":                         {use: Idle},
	"engine.cgroup_manager":                       {use: Acts},
	"engine.chown_copied_files":                   {use: Idle}, // podman reads it no more
	"engine.compat_api_enforce_docker_hub":        {use: Idle},
	"engine.compose_providers":                    {use: Idle},
	"engine.compose_warning_logs":                 {use: Idle},
	"engine.compression_format":                   {use: Acts},
	"engine.compression_level":                    {use: Acts},
	"engine.conmon_env_vars":                      {use: Acts},
	"engine.conmon_path":                          {use: Acts},
	"engine.conmonrs_path":                        {use: Idle},
	"engine.database_backend":                     {use: Acts},
	"engine.detach_keys":                          {use: Acts},
	"engine.enable_port_reservation":              {use: Acts},
	"engine.env":                                  {use: Acts},
	"engine.events_container_create_inspect_data": {use: Acts},
	"engine.events_logfile_max_size":              {use: Acts},
	"engine.events_logfile_path":                  {use: Acts},
	"engine.events_logger":                        {use: Acts},
	"engine.exit_command_delay":                   {use: Idle}, // of execs by the API
	"engine.healthcheck_events":                   {use: Acts},
	"engine.helper_binaries_dir":                  {use: Acts},
	"engine.hooks_dir":                            {use: Acts},
	"engine.image_build_format":                   {use: Idle},
	"engine.image_copy_tmp_dir":                   {use: Acts},
	"engine.image_default_format":                 {use: Idle}, // of builds; images keep theirs
	"engine.image_default_transport":              {use: Idle}, // podman reads it no more
	"engine.image_parallel_copies":                {use: Acts},
	"engine.image_volume_mode":                    {use: Acts},
	"engine.infra_command":                        {use: Idle}, // of pods
	"engine.infra_image":                          {use: Idle},
	"engine.init_path":                            {use: Acts},
	"engine.kube_generate_type":                   {use: Idle},
	"engine.lock_type":                            {use: Acts},
	"engine.monitor":                              {use: Acts}, // cove's own
	"engine.multi_image_archive":                  {use: Acts},
	"engine.namespace":                            {Ignored, byContainers, func(c *Config) bool { return c.File.Engine.Namespace == "" }},
	"engine.network_cmd_options":                  {use: Acts},
	"engine.network_cmd_path":                     {use: Acts}, // the library has left it out
	"engine.no_pivot_root":                        {Ignored, byContainers, func(c *Config) bool { return !c.File.Engine.NoPivotRoot }},
	"engine.num_locks":                            {use: Acts},
	"engine.platform_to_oci_runtime":              {use: Acts},
	"engine.pod_exit_policy":                      {use: Idle},
	"engine.podmansh_timeout":                     {use: Idle},
	"engine.pull_policy":                          {use: Acts},
	"engine.remote":                               {Ignored, byContainers, func(c *Config) bool { return !c.File.Engine.Remote }},
	"engine.remote_identity":                      {use: Idle},
	"engine.remote_uri":                           {use: Idle},
	"engine.retry":                                {use: Acts},
	"engine.retry_delay":                          {use: Acts},
	"engine.runtime":                              {use: Acts},
	"engine.runtime_path":                         {use: Idle}, // where no runtimes are configured, and the library configures some
	"engine.runtime_supports_json":                {use: Acts},
	"engine.runtime_supports_kvm":                 {use: Acts}, // the SELinux label
	"engine.runtime_supports_nocgroup":            {use: Acts},
	"engine.runtime_supports_nocgroups":           {use: Idle}, // the documentation's spelling, which podman does not read either
	"engine.runtimes":                             {use: Acts},
	"engine.runtimes_flags":                       {use: Acts},
	"engine.service_destinations":                 {use: Idle},
	"engine.service_timeout":                      {use: Idle},
	"engine.ssh_config":                           {use: Idle},
	"engine.static_dir":                           {use: Idle}, // of podman's records, not of cove's
	"engine.stop_timeout":                         {use: Acts},
	"engine.tmp_dir":                              {use: Idle},
	"engine.volume_path":                          {use: Acts},
	"engine.volume_plugin_timeout":                {use: Idle}, // volumes of a plugin are refused
	"engine.volume_plugins":                       {use: Idle},

	"network.cni_plugin_dirs":              {use: Idle}, // the library has left it out, and podman CNI
	"network.default_host_ips":             {use: Acts},
	"network.default_network":              {use: Acts},
	"network.default_rootless_network_cmd": {use: Acts},
	"network.default_subnet":               {use: Acts},
	"network.default_subnet_pools":         {use: Acts},
	"network.dns_bind_port":                {use: Idle}, // cove's name server listens inside the container
	"network.firewall_driver":              {Ignored, byNetworks, func(c *Config) bool { return c.File.Network.FirewallDriver == "nftables" }},
	"network.netavark_plugin_dirs":         {use: Idle}, // such drivers are refused
	"network.network_backend":              {Ignored, byNetworks, func(c *Config) bool { return c.File.Network.NetworkBackend == "netavark" }},
	"network.network_config_dir":           {Ignored, byNetworks, nil},
	"network.pasta_options":                {use: Acts},
	"network.rootless_port_forwarder":      {Ignored, byNetworks, func(c *Config) bool { return !c.Rootless || c.File.Network.RootlessPortForwarder != "pasta" }},

	"secrets.driver":    {use: Idle}, // there are no secrets
	"secrets.opts":      {use: Idle},
	"configmaps.driver": {use: Idle},
	"configmaps.opts":   {use: Idle},

	"farms.default":            {use: Idle},
	"farms.list":               {use: Idle},
	"machine.cpus":             {use: Idle},
	"machine.disk_size":        {use: Idle},
	"machine.image":            {use: Idle},
	"machine.import_native_ca": {use: Idle},
	"machine.memory":           {use: Idle},
	"machine.provider":         {use: Idle},
	"machine.rosetta":          {use: Idle},
	"machine.user":             {use: Idle},
	"machine.volumes":          {use: Idle},
	"podmansh.container":       {use: Idle},
	"podmansh.shell":           {use: Idle},
	"podmansh.timeout":         {use: Idle},
}

// Key is a key that a file sets.
type Key struct {
	Name string // table.key
	File string
	// Known tells it from a slip of the pen, or the key of a podman to come.
	Known bool
}

// Place is where it is set, with the line where that can be told.
func (k Key) Place() string {
	line := lineOf(k.File, k.Name)
	if line == 0 {
		return k.File
	}
	return k.File + ":" + strconv.Itoa(line)
}

func (c *Config) sets(name string) bool { return c.set[name] != "" }

// Unused are the keys set that nothing in cove asks for.
func (c *Config) Unused() []Key {
	return c.choose(func(k key, known bool) bool { return known && k.use == Idle })
}

// Unfollowed are the keys set that cove does not follow, and those that the
// library does not know, storage.conf's too.
func (c *Config) Unfollowed() []Key {
	return c.andOthers(c.choose(func(k key, known bool) bool { return !known || k.use == Ignored || k.use == Refused }))
}

// andOthers adds storage.conf's, and another user's files.
func (c *Config) andOthers(all []Key) []Key {
	for _, dir := range c.passedOver {
		all = append(all, Key{Name: "another user's files", File: dir, Known: true})
	}
	return append(all, unusedStorage()...)
}

// Ignored are those that the makers of by, in the plural, do without; unknown
// ones are for makers of containers to hear of.
func (c *Config) Ignored(by string) []Key {
	all := c.choose(func(k key, known bool) bool { return k.by == by || !known && by == byContainers })
	if by == byContainers {
		all = c.andOthers(all)
	}
	return all
}

// Refused are those that no container can be made with on a host with SELinux,
// whose labels cove does not set.
func (c *Config) Refused() []Key {
	return c.choose(func(k key, _ bool) bool { return k.use == Refused })
}

func (c *Config) choose(wanted func(k key, known bool) bool) []Key {
	var out []Key
	for _, name := range slices.Sorted(maps.Keys(c.set)) {
		k, known := keys[name]
		if wanted(k, known) && (k.safe == nil || !k.safe(c)) {
			out = append(out, Key{Name: name, File: c.set[name], Known: known})
		}
	}
	return out
}

// Keys are all that cove knows, with what it does with each.
func Keys() iter.Seq2[string, Use] {
	return func(yield func(string, Use) bool) {
		for _, name := range slices.Sorted(maps.Keys(keys)) {
			if !yield(name, keys[name].use) {
				return
			}
		}
	}
}
