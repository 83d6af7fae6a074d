module github.com/cove-engine/cove/test/conformance

go 1.26.0

require (
	github.com/blang/semver v3.5.1+incompatible // indirect
	github.com/cpuguy83/go-md2man/v2 v2.0.2 // indirect
	github.com/hashicorp/errwrap v1.0.0 // indirect
	github.com/hashicorp/go-multierror v1.1.1 // indirect
	github.com/mndrix/tap-go v0.0.0-20171203230836-629fa407e90b // indirect
	github.com/mrunalp/fileutils v0.5.0 // indirect
	github.com/opencontainers/runtime-spec v1.0.2 // indirect
	github.com/opencontainers/runtime-tools v0.9.0 // indirect
	github.com/opencontainers/selinux v1.8.0 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/russross/blackfriday/v2 v2.1.0 // indirect
	github.com/satori/go.uuid v1.2.0 // indirect
	github.com/sirupsen/logrus v1.9.3 // indirect
	github.com/syndtr/gocapability v0.0.0-20200815063812-42c35b437635 // indirect
	github.com/urfave/cli v1.22.14 // indirect
	github.com/willf/bitset v1.1.11 // indirect
	github.com/xeipuuv/gojsonpointer v0.0.0-20180127040702-4e3ac2762d5f // indirect
	github.com/xeipuuv/gojsonreference v0.0.0-20180127040603-bd5ef7bd5415 // indirect
	github.com/xeipuuv/gojsonschema v1.2.0 // indirect
	golang.org/x/sys v0.26.0 // indirect
	gopkg.in/yaml.v2 v2.4.0 // indirect
)

tool github.com/opencontainers/runtime-tools/validation/config_updates_without_affect

tool github.com/opencontainers/runtime-tools/validation/create

tool github.com/opencontainers/runtime-tools/validation/default

tool github.com/opencontainers/runtime-tools/validation/delete

tool github.com/opencontainers/runtime-tools/validation/delete_only_create_resources

tool github.com/opencontainers/runtime-tools/validation/delete_resources

tool github.com/opencontainers/runtime-tools/validation/hooks

tool github.com/opencontainers/runtime-tools/validation/hooks_stdin

tool github.com/opencontainers/runtime-tools/validation/hostname

tool github.com/opencontainers/runtime-tools/validation/kill

tool github.com/opencontainers/runtime-tools/validation/kill_no_effect

tool github.com/opencontainers/runtime-tools/validation/killsig

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_blkio

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_cpus

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_devices

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_hugetlb

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_memory

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_network

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_pids

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_relative_blkio

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_relative_cpus

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_relative_devices

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_relative_hugetlb

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_relative_memory

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_relative_network

tool github.com/opencontainers/runtime-tools/validation/linux_cgroups_relative_pids

tool github.com/opencontainers/runtime-tools/validation/linux_devices

tool github.com/opencontainers/runtime-tools/validation/linux_masked_paths

tool github.com/opencontainers/runtime-tools/validation/linux_mount_label

tool github.com/opencontainers/runtime-tools/validation/linux_ns_itype

tool github.com/opencontainers/runtime-tools/validation/linux_ns_nopath

tool github.com/opencontainers/runtime-tools/validation/linux_ns_path

tool github.com/opencontainers/runtime-tools/validation/linux_ns_path_type

tool github.com/opencontainers/runtime-tools/validation/linux_process_apparmor_profile

tool github.com/opencontainers/runtime-tools/validation/linux_readonly_paths

tool github.com/opencontainers/runtime-tools/validation/linux_rootfs_propagation

tool github.com/opencontainers/runtime-tools/validation/linux_seccomp

tool github.com/opencontainers/runtime-tools/validation/linux_sysctl

tool github.com/opencontainers/runtime-tools/validation/linux_uid_mappings

tool github.com/opencontainers/runtime-tools/validation/misc_props

tool github.com/opencontainers/runtime-tools/validation/mounts

tool github.com/opencontainers/runtime-tools/validation/pidfile

tool github.com/opencontainers/runtime-tools/validation/poststart

tool github.com/opencontainers/runtime-tools/validation/poststart_fail

tool github.com/opencontainers/runtime-tools/validation/poststop

tool github.com/opencontainers/runtime-tools/validation/poststop_fail

tool github.com/opencontainers/runtime-tools/validation/prestart

tool github.com/opencontainers/runtime-tools/validation/prestart_fail

tool github.com/opencontainers/runtime-tools/validation/process

tool github.com/opencontainers/runtime-tools/validation/process_capabilities

tool github.com/opencontainers/runtime-tools/validation/process_capabilities_fail

tool github.com/opencontainers/runtime-tools/validation/process_oom_score_adj

tool github.com/opencontainers/runtime-tools/validation/process_rlimits

tool github.com/opencontainers/runtime-tools/validation/process_rlimits_fail

tool github.com/opencontainers/runtime-tools/validation/process_user

tool github.com/opencontainers/runtime-tools/validation/root_readonly_true

tool github.com/opencontainers/runtime-tools/validation/start

tool github.com/opencontainers/runtime-tools/validation/state

tool github.com/opencontainers/runtime-tools/cmd/runtimetest
