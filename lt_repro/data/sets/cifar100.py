"""CIFAR-100."""

from pathlib import Path

from lt_repro.data.cifar import Cifar

DATASET = Cifar(
    name="cifar100",
    title="CIFAR-100",
    long_tailed="CIFAR-LT-100",
    sizes=(500,) * 100,
    statistics=((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),  # as in DBN-Mix's released code
    published=Path(__file__).with_suffix(".npz"),
    archive="cifar-100-python.tar.gz",
    sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    md5={
        "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
        "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
    },
    labels="fine_labels",
    class_names="fine_label_names",
)
