"""CIFAR-10."""

from pathlib import Path

from lt_repro.data.cifar import Cifar

DATASET = Cifar(
    name="cifar10",
    title="CIFAR-10",
    long_tailed="CIFAR-LT-10",
    sizes=(5000,) * 10,
    statistics=((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),  # as in DBN-Mix's released code
    published=Path(__file__).with_suffix(".npz"),
    archive="cifar-10-python.tar.gz",
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    md5={
        "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
        "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
        "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
        "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    labels="labels",
    class_names="label_names",
)
