package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// topologyParameter of a StorageClass names the node label whose value a volume is bound to:
// kubernetes.io/hostname for disks of one node, topology.kubernetes.io/zone for disks that a whole zone can attach.
const topologyParameter = "topologyKey"

// directories makes volumes that are directories of this machine. Every node sees the same file system, so it is the
// volume's node affinity alone that says where a volume can be used, as with the disks of a cloud.
type directories struct {
	root   string
	client kubernetes.Interface
}

// runProvisioner serves the StorageClasses that name --provisioner.
func runProvisioner(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("provisioner", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "path of the kubeconfig")
	name := flags.String("provisioner", "", "name that StorageClasses use for this provisioner")
	root := flags.String("root", "", "directory for the volumes")
	if err := parseRequired(flags, args); err != nil {
		return err
	}
	client, err := connect(*kubeconfig)
	if err != nil {
		return err
	}
	controller.NewProvisionController(ctx, client, *name, directories{root: *root, client: client},
		controller.LeaderElection(false)).Run(ctx)
	return nil
}

// Provision makes one directory. It is world-writable because Pods run under any user id, with or without fsGroup.
func (d directories) Provision(
	ctx context.Context, options controller.ProvisionOptions,
) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	const done = controller.ProvisioningFinished
	claim := options.PVC
	if mode := claim.Spec.VolumeMode; mode != nil && *mode != corev1.PersistentVolumeFilesystem {
		return nil, done, fmt.Errorf("volumeMode %s is not served, use Filesystem", *mode)
	}
	if claim.Spec.Selector != nil {
		return nil, done, fmt.Errorf("a claim's selector is not served")
	}
	key := options.StorageClass.Parameters[topologyParameter]
	if options.SelectedNodeName == "" {
		return nil, done, fmt.Errorf("the StorageClass must have volumeBindingMode: WaitForFirstConsumer")
	}
	node, err := d.client.CoreV1().Nodes().Get(ctx, options.SelectedNodeName, metav1.GetOptions{})
	if err != nil {
		return nil, done, err
	}
	place, ok := node.Labels[key]
	if !ok {
		return nil, done, fmt.Errorf("node %s has no label %q (parameter %s of the StorageClass)",
			node.Name, key, topologyParameter)
	}
	path := filepath.Join(d.root, options.PVName)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, done, err
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, done, err
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   claim.Spec.AccessModes,
			MountOptions:                  options.StorageClass.MountOptions,
			Capacity: corev1.ResourceList{
				corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage],
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchExpressions: []corev1.NodeSelectorRequirement{
						{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{place}},
					},
				}},
			}},
		},
	}, done, nil
}

// Delete removes the directory of a volume that this provisioner made.
func (d directories) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	path := filepath.Join(d.root, volume.Name)
	if local := volume.Spec.Local; local == nil || local.Path != path {
		return &controller.IgnoredError{Reason: "the volume is not a directory below " + d.root}
	}
	return os.RemoveAll(path)
}
