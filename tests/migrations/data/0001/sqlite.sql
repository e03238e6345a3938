BEGIN TRANSACTION;
CREATE TABLE adapters (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	name_key VARCHAR NOT NULL, 
	last_version INTEGER DEFAULT '0' NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, 
	CONSTRAINT pk_adapters PRIMARY KEY (id), 
	CONSTRAINT ck_adapters_last_version CHECK (last_version >= 0), 
	CONSTRAINT ck_adapters_name_key CHECK (name_key = lower(name)), 
	CONSTRAINT uq_adapters_name_key UNIQUE (name_key)
);
INSERT INTO "adapters" VALUES(1,'a','a',2,'2026-11-21 22:25:04.017651','ann');
INSERT INTO "adapters" VALUES(2,'team/QA-lora','team/qa-lora',1,'2026-11-21 22:25:04.112927','ann');
INSERT INTO "adapters" VALUES(3,'toxic','toxic',1,'2026-11-21 22:25:04.173166','ann');
INSERT INTO "adapters" VALUES(4,'spare','spare',1,'2026-11-21 22:25:04.244218','ann');
INSERT INTO "adapters" VALUES(5,'mix','mix',1,'2026-11-21 22:25:04.578260','ann');
INSERT INTO "adapters" VALUES(6,'far','far',1,'2026-11-21 22:25:04.765841','ann');
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE aliases (
	adapter_id INTEGER NOT NULL, 
	alias_key VARCHAR NOT NULL, 
	alias VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	updated_at DATETIME NOT NULL, 
	updated_by TEXT NOT NULL, 
	CONSTRAINT pk_aliases PRIMARY KEY (adapter_id, alias_key), 
	CONSTRAINT ck_aliases_alias_key CHECK (alias_key = lower(alias)), 
	CONSTRAINT fk_aliases_adapter_id_number FOREIGN KEY(adapter_id, number) REFERENCES versions (adapter_id, number) ON DELETE RESTRICT
);
INSERT INTO "aliases" VALUES(5,'prod','Prod',1,'2026-11-21 22:25:04.667136','ann');
CREATE TABLE artifact_files (
	artifact_digest VARCHAR NOT NULL, 
	path VARCHAR NOT NULL, 
	blob_digest VARCHAR NOT NULL, 
	CONSTRAINT pk_artifact_files PRIMARY KEY (artifact_digest, path), 
	CONSTRAINT fk_artifact_files_artifact_digest FOREIGN KEY(artifact_digest) REFERENCES artifacts (digest) ON DELETE RESTRICT, 
	CONSTRAINT fk_artifact_files_blob_digest FOREIGN KEY(blob_digest) REFERENCES blobs (digest) ON DELETE RESTRICT
);
INSERT INTO "artifact_files" VALUES('sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f','adapter_config.json','sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4');
INSERT INTO "artifact_files" VALUES('sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f','adapter_model.safetensors','sha256:1badf4e9814eeeb4906bce25fa41185b83623c87031b21d29356a01a9b82efb2');
INSERT INTO "artifact_files" VALUES('sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf','adapter_config.json','sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4');
INSERT INTO "artifact_files" VALUES('sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf','adapter_model.safetensors','sha256:02fe97e820be1addacb0b80a51e8733fcbd4f3e64f84af016e8d851e1e2577cc');
INSERT INTO "artifact_files" VALUES('sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2','adapter_config.json','sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4');
INSERT INTO "artifact_files" VALUES('sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2','adapter_model.safetensors','sha256:f9c78384637a593c8a77f65bfcc65679f0c2b6f8bce856b3fea5e649d7171a02');
INSERT INTO "artifact_files" VALUES('sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299','adapter_config.json','sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4');
INSERT INTO "artifact_files" VALUES('sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299','adapter_model.safetensors','sha256:07e9eb1305cd188b247611a52b3b59c1f58ebf52d161c051c6f7268079b83c9d');
INSERT INTO "artifact_files" VALUES('sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6','adapter_config.json','sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4');
INSERT INTO "artifact_files" VALUES('sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6','adapter_model.safetensors','sha256:ed2b7e9476f6e6f6b28b6e2343c9fe94be5ed2742d834e8811e4e75444cb4333');
INSERT INTO "artifact_files" VALUES('sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16','adapter_config.json','sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785');
INSERT INTO "artifact_files" VALUES('sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16','adapter_model.safetensors','sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832');
INSERT INTO "artifact_files" VALUES('sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f','adapter_config.json','sha256:f4d920c9c92e53bd29011d54a46a638338a4bd46831fc92a32cbc098dc24b678');
INSERT INTO "artifact_files" VALUES('sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f','adapter_model.safetensors','sha256:2d1223d66397895968325f73120908926991debe82c95b7b40d37f59e734acda');
INSERT INTO "artifact_files" VALUES('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e','config.json','sha256:87bbd2e1bf3d2f1cae8ddb87b0083b641fb7263dbb5133d01e39ab662bfade85');
INSERT INTO "artifact_files" VALUES('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e','generation_config.json','sha256:1113738beda64787778c7058b7689d0b4fc2e402c0c5b552916168a0e551a393');
INSERT INTO "artifact_files" VALUES('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e','model.safetensors','sha256:745f2d9763207abd571c7f6ef822e23adde3fb5c28d4f5dda9f3e4d3fe80493a');
CREATE TABLE artifacts (
	digest VARCHAR NOT NULL, 
	target VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	rank INTEGER, 
	parameters BIGINT NOT NULL, 
	modules INTEGER NOT NULL, 
	dtype VARCHAR NOT NULL, 
	size BIGINT NOT NULL, 
	not_composable JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_artifacts PRIMARY KEY (digest), 
	CONSTRAINT ck_artifacts_digest CHECK (digest LIKE 'sha256:%'), 
	CONSTRAINT ck_artifacts_target CHECK (target IN ('adapter', 'model'))
);
INSERT INTO "artifacts" VALUES('sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f','adapter','lora',2,128,1,'float32',1216,'[]','2026-11-21 22:25:04.031186');
INSERT INTO "artifacts" VALUES('sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf','adapter','lora',2,128,1,'float32',1216,'[]','2026-11-21 22:25:04.114696');
INSERT INTO "artifacts" VALUES('sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2','adapter','lora',2,128,1,'float32',1216,'[]','2026-11-21 22:25:04.174776');
INSERT INTO "artifacts" VALUES('sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299','adapter','lora',2,128,1,'float32',1216,'[]','2026-11-21 22:25:04.248655');
INSERT INTO "artifacts" VALUES('sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6','adapter','lora',2,128,1,'float32',1216,'[]','2026-11-21 22:25:04.336701');
INSERT INTO "artifacts" VALUES('sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16','adapter','lora',4,256,1,'float32',2097,'[]','2026-11-21 22:25:04.586143');
INSERT INTO "artifacts" VALUES('sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f','adapter','lora',8,512,1,'float32',3121,'[]','2026-11-21 22:25:04.779005');
INSERT INTO "artifacts" VALUES('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e','model','model',NULL,21664,21,'float32',89668,'[]','2026-11-21 22:25:05.007044');
CREATE TABLE base_models (
	id INTEGER NOT NULL, 
	repo VARCHAR NOT NULL, 
	revision VARCHAR NOT NULL, 
	fingerprint VARCHAR, 
	CONSTRAINT pk_base_models PRIMARY KEY (id), 
	CONSTRAINT ck_base_models_repo CHECK (repo <> ''), 
	CONSTRAINT uq_base_models_repo_revision UNIQUE (repo, revision)
);
INSERT INTO "base_models" VALUES(1,'tiny/base','','sha256:3ce55d2b756cc55523e47280b435b5deb9dfb7fdc11120e35c15f89ab4fbf24b');
CREATE TABLE blobs (
	digest VARCHAR NOT NULL, 
	size BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_blobs PRIMARY KEY (digest), 
	CONSTRAINT ck_blobs_digest CHECK (digest LIKE 'sha256:%'), 
	CONSTRAINT ck_blobs_size CHECK (size >= 0)
);
INSERT INTO "blobs" VALUES('sha256:1badf4e9814eeeb4906bce25fa41185b83623c87031b21d29356a01a9b82efb2',792,'2026-11-21 22:25:04.030064');
INSERT INTO "blobs" VALUES('sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4',424,'2026-11-21 22:25:04.031027');
INSERT INTO "blobs" VALUES('sha256:02fe97e820be1addacb0b80a51e8733fcbd4f3e64f84af016e8d851e1e2577cc',792,'2026-11-21 22:25:04.114206');
INSERT INTO "blobs" VALUES('sha256:f9c78384637a593c8a77f65bfcc65679f0c2b6f8bce856b3fea5e649d7171a02',792,'2026-11-21 22:25:04.174667');
INSERT INTO "blobs" VALUES('sha256:07e9eb1305cd188b247611a52b3b59c1f58ebf52d161c051c6f7268079b83c9d',792,'2026-11-21 22:25:04.247959');
INSERT INTO "blobs" VALUES('sha256:ed2b7e9476f6e6f6b28b6e2343c9fe94be5ed2742d834e8811e4e75444cb4333',792,'2026-11-21 22:25:04.336577');
INSERT INTO "blobs" VALUES('sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785',449,'2026-11-21 22:25:04.585829');
INSERT INTO "blobs" VALUES('sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832',1648,'2026-11-21 22:25:04.586039');
INSERT INTO "blobs" VALUES('sha256:2d1223d66397895968325f73120908926991debe82c95b7b40d37f59e734acda',2672,'2026-11-21 22:25:04.778569');
INSERT INTO "blobs" VALUES('sha256:f4d920c9c92e53bd29011d54a46a638338a4bd46831fc92a32cbc098dc24b678',449,'2026-11-21 22:25:04.778866');
INSERT INTO "blobs" VALUES('sha256:1113738beda64787778c7058b7689d0b4fc2e402c0c5b552916168a0e551a393',195,'2026-11-21 22:25:05.006742');
INSERT INTO "blobs" VALUES('sha256:745f2d9763207abd571c7f6ef822e23adde3fb5c28d4f5dda9f3e4d3fe80493a',88760,'2026-11-21 22:25:05.006860');
INSERT INTO "blobs" VALUES('sha256:87bbd2e1bf3d2f1cae8ddb87b0083b641fb7263dbb5133d01e39ab662bfade85',713,'2026-11-21 22:25:05.006955');
CREATE TABLE evaluations (
	id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	metric VARCHAR NOT NULL, 
	dataset VARCHAR NOT NULL, 
	split VARCHAR NOT NULL, 
	value DOUBLE NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, 
	CONSTRAINT pk_evaluations PRIMARY KEY (id), 
	CONSTRAINT fk_evaluations_version_id FOREIGN KEY(version_id) REFERENCES versions (id) ON DELETE RESTRICT, 
	CONSTRAINT uq_evaluations_version_id_dataset_split_metric UNIQUE (version_id, dataset, split, metric)
);
INSERT INTO "evaluations" VALUES(1,6,'accuracy','d','test',0.5,'2026-11-21 22:25:05.024171','ann');
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	actor TEXT NOT NULL, 
	action VARCHAR NOT NULL, 
	subject VARCHAR NOT NULL, 
	detail JSON NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1,'2026-11-21 22:25:04.049423','ann','import','a@1','{"digest": "sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f", "expression": null, "source": "/tmp/adapters/one/adapter0"}');
INSERT INTO "events" VALUES(2,'2026-11-21 22:25:04.118272','ann','import','team/QA-lora@1','{"digest": "sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf", "expression": null, "source": "/tmp/adapters/one/adapter1"}');
INSERT INTO "events" VALUES(3,'2026-11-21 22:25:04.176370','ann','import','toxic@1','{"digest": "sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2", "expression": null, "source": "/tmp/adapters/one/adapter2"}');
INSERT INTO "events" VALUES(4,'2026-11-21 22:25:04.250071','ann','import','spare@1','{"digest": "sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299", "expression": null, "source": "/tmp/adapters/one/adapter3"}');
INSERT INTO "events" VALUES(5,'2026-11-21 22:25:04.338342','ann','import','a@2','{"digest": "sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6", "expression": null, "source": "/tmp/adapters/one/next"}');
INSERT INTO "events" VALUES(6,'2026-11-21 22:25:04.598033','ann','compose','mix@1','{"digest": "sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16", "expression": "0.5*a + 0.5*team/QA-lora", "source": null}');
INSERT INTO "events" VALUES(7,'2026-11-21 22:25:04.667227','ann','alias','mix','{"alias": "Prod", "from": null, "to": 1}');
INSERT INTO "events" VALUES(8,'2026-11-21 22:25:04.789772','ann','compose','far@1','{"digest": "sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f", "expression": "0.5*mix@prod + a@1 - 0.25*toxic", "source": null}');
INSERT INTO "events" VALUES(9,'2026-11-21 22:25:05.005169','ann','fingerprint','tiny/base','{"fingerprint": "sha256:3ce55d2b756cc55523e47280b435b5deb9dfb7fdc11120e35c15f89ab4fbf24b"}');
INSERT INTO "events" VALUES(10,'2026-11-21 22:25:05.012851','ann','materialize','mix@1','{"target": "model", "digest": "sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e"}');
INSERT INTO "events" VALUES(11,'2026-11-21 22:25:05.024188','ann','evaluate','mix@1','{"metric": "accuracy", "dataset": "d", "split": "test", "value": 0.5, "previous": null}');
INSERT INTO "events" VALUES(12,'2026-11-21 22:25:05.042598','ann','delete','spare@1','{"digest": "sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299"}');
INSERT INTO "events" VALUES(13,'2026-11-21 22:25:05.426345','ann','publish','mix@1','{"repo": "team/mix", "revision": "main", "target": "adapter", "commit": "f7608fde0cea4f0e0a2f00685cc0e927c23f9496"}');
CREATE TABLE lineage (
	child_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	parent_id INTEGER NOT NULL, 
	relation VARCHAR NOT NULL, 
	coefficient TEXT, 
	CONSTRAINT pk_lineage PRIMARY KEY (child_id, position), 
	CONSTRAINT ck_lineage_relation CHECK (relation IN ('input', 'declared')), 
	CONSTRAINT ck_lineage_acyclic CHECK (parent_id < child_id), 
	CONSTRAINT fk_lineage_child_id FOREIGN KEY(child_id) REFERENCES versions (id) ON DELETE RESTRICT, 
	CONSTRAINT fk_lineage_parent_id FOREIGN KEY(parent_id) REFERENCES versions (id) ON DELETE RESTRICT, 
	CONSTRAINT uq_lineage_child_id_relation_parent_id UNIQUE (child_id, relation, parent_id)
);
INSERT INTO "lineage" VALUES(5,0,3,'declared',NULL);
INSERT INTO "lineage" VALUES(6,0,5,'input','0.5');
INSERT INTO "lineage" VALUES(6,1,2,'input','0.5');
INSERT INTO "lineage" VALUES(7,0,6,'input','0.5');
INSERT INTO "lineage" VALUES(7,1,1,'input','1');
INSERT INTO "lineage" VALUES(7,2,3,'input','-0.25');
CREATE TABLE publications (
	id INTEGER NOT NULL, 
	publish_id VARCHAR NOT NULL, 
	version_id INTEGER NOT NULL, 
	repo VARCHAR NOT NULL, 
	revision VARCHAR NOT NULL, 
	target VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	"commit" VARCHAR, 
	url TEXT, 
	files JSON NOT NULL, 
	error TEXT, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, 
	finished_at DATETIME, 
	CONSTRAINT pk_publications PRIMARY KEY (id), 
	CONSTRAINT ck_publications_finished CHECK ((state = 'pending') = (finished_at IS NULL)), 
	CONSTRAINT ck_publications_state CHECK (state IN ('pending', 'done', 'failed')), 
	CONSTRAINT ck_publications_target CHECK (target IN ('adapter', 'model')), 
	CONSTRAINT ck_publications_commit CHECK (state <> 'done' OR "commit" IS NOT NULL), 
	CONSTRAINT fk_publications_version_id FOREIGN KEY(version_id) REFERENCES versions (id) ON DELETE RESTRICT, 
	CONSTRAINT uq_publications_publish_id UNIQUE (publish_id)
);
INSERT INTO "publications" VALUES(1,'48756b9cc3454ca5825e7f3f7dafb276',6,'team/mix','main','adapter','done','f7608fde0cea4f0e0a2f00685cc0e927c23f9496','http://127.0.0.1:32861/team/mix/commit/f7608fde0cea4f0e0a2f00685cc0e927c23f9496','{"adapter_config.json": "sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785", "adapter_model.safetensors": "sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832", "README.md": "sha256:d692b4cf8303f3a0d58c8c028ad34d869fdb8b580976f8468c889956179e427c", "provenance.json": "sha256:4b0efabbd745314fe14b523fba51e9bf5fa5091550015a366bc4f9a115d01a27"}',NULL,'2026-11-21 22:25:05.317925','ann','2026-11-21 22:25:05.426313');
CREATE TABLE realisations (
	id INTEGER NOT NULL, 
	recipe_digest VARCHAR NOT NULL, 
	target VARCHAR NOT NULL, 
	variant VARCHAR NOT NULL, 
	output_digest VARCHAR NOT NULL, 
	device VARCHAR NOT NULL, 
	dtype VARCHAR NOT NULL, 
	seed BIGINT NOT NULL, 
	libraries JSON NOT NULL, 
	seconds DOUBLE NOT NULL, 
	report JSON NOT NULL, 
	files JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_realisations PRIMARY KEY (id), 
	CONSTRAINT ck_realisations_target CHECK (target IN ('adapter', 'model')), 
	CONSTRAINT fk_realisations_recipe_digest FOREIGN KEY(recipe_digest) REFERENCES recipes (digest) ON DELETE RESTRICT, 
	CONSTRAINT uq_realisations_output UNIQUE (recipe_digest, target, variant, output_digest)
);
INSERT INTO "realisations" VALUES(1,'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9','adapter','','sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16','cpu','float32',0,'{"adapter-registry": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"}',6.77808539985562674701e-02,'[]','{}','2026-11-21 22:25:04.598091');
INSERT INTO "realisations" VALUES(2,'sha256:44b16de08204844dcca5f2c4c74b8fbcca7d4f8e6fd96702b299635b56423c89','adapter','','sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f','cpu','float32',0,'{"adapter-registry": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"}',5.25620379994506947696e-02,'[]','{}','2026-11-21 22:25:04.789820');
INSERT INTO "realisations" VALUES(3,'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9','model','sha256:3c6319a49354b2c1cce45641d4b0ec34b053fa1bb3cb5b83260fcf2b7e5f9369','sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e','cpu','as the base',0,'{"adapter-registry": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"}',1.48168373998487368226e-01,'[]','{"config.json": {"size": 713, "sha256": "sha256:87bbd2e1bf3d2f1cae8ddb87b0083b641fb7263dbb5133d01e39ab662bfade85"}, "generation_config.json": {"size": 195, "sha256": "sha256:1113738beda64787778c7058b7689d0b4fc2e402c0c5b552916168a0e551a393"}, "model.safetensors": {"size": 88760, "sha256": "sha256:745f2d9763207abd571c7f6ef822e23adde3fb5c28d4f5dda9f3e4d3fe80493a"}}','2026-11-21 22:25:05.006459');
CREATE TABLE recipes (
	digest VARCHAR NOT NULL, 
	canonical TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_recipes PRIMARY KEY (digest), 
	CONSTRAINT ck_recipes_digest CHECK (digest LIKE 'sha256:%')
);
INSERT INTO "recipes" VALUES('sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9','{"algorithm":1,"dtype":"float32","expression":{"sum":[["0.5",{"adapter":"sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6"}],["0.5",{"adapter":"sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf"}]]},"format":1,"kind":"lora","seed":0}','2026-11-21 22:25:04.586589');
INSERT INTO "recipes" VALUES('sha256:44b16de08204844dcca5f2c4c74b8fbcca7d4f8e6fd96702b299635b56423c89','{"algorithm":1,"dtype":"float32","expression":{"sum":[["0.5",{"adapter":"sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16"}],["-0.25",{"adapter":"sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2"}],["1",{"adapter":"sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f"}]]},"format":1,"kind":"lora","seed":0}','2026-11-21 22:25:04.779716');
CREATE TABLE tags (
	version_id INTEGER NOT NULL, 
	"key" VARCHAR NOT NULL, 
	value VARCHAR NOT NULL, 
	CONSTRAINT pk_tags PRIMARY KEY (version_id, "key"), 
	CONSTRAINT fk_tags_version_id FOREIGN KEY(version_id) REFERENCES versions (id) ON DELETE RESTRICT
);
INSERT INTO "tags" VALUES(1,'stage','new');
INSERT INTO "tags" VALUES(1,'k','v');
INSERT INTO "tags" VALUES(2,'stage','new');
INSERT INTO "tags" VALUES(2,'k','v');
INSERT INTO "tags" VALUES(3,'stage','new');
INSERT INTO "tags" VALUES(3,'k','v');
INSERT INTO "tags" VALUES(4,'stage','new');
INSERT INTO "tags" VALUES(4,'k','v');
CREATE TABLE versions (
	id INTEGER NOT NULL, 
	adapter_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	artifact_digest VARCHAR NOT NULL, 
	base_model_id INTEGER NOT NULL, 
	recipe_digest VARCHAR, 
	expression TEXT, 
	resolved TEXT, 
	task TEXT, 
	license TEXT, 
	note TEXT, 
	source TEXT, 
	latest_of INTEGER, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, 
	deleted_at DATETIME, 
	deleted_by TEXT, 
	CONSTRAINT pk_versions PRIMARY KEY (id), 
	CONSTRAINT ck_versions_tombstone CHECK ((deleted_at IS NULL) = (deleted_by IS NULL)), 
	CONSTRAINT ck_versions_derived CHECK ((recipe_digest IS NULL) = (expression IS NULL) AND (recipe_digest IS NULL) = (resolved IS NULL)), 
	CONSTRAINT ck_versions_latest_is_live CHECK (latest_of IS NULL OR (latest_of = adapter_id AND deleted_at IS NULL)), 
	CONSTRAINT ck_versions_number CHECK (number >= 1), 
	CONSTRAINT fk_versions_adapter_id FOREIGN KEY(adapter_id) REFERENCES adapters (id) ON DELETE RESTRICT, 
	CONSTRAINT fk_versions_artifact_digest FOREIGN KEY(artifact_digest) REFERENCES artifacts (digest) ON DELETE RESTRICT, 
	CONSTRAINT fk_versions_base_model_id FOREIGN KEY(base_model_id) REFERENCES base_models (id) ON DELETE RESTRICT, 
	CONSTRAINT fk_versions_recipe_digest FOREIGN KEY(recipe_digest) REFERENCES recipes (digest) ON DELETE RESTRICT, 
	CONSTRAINT fk_versions_latest_of FOREIGN KEY(latest_of) REFERENCES adapters (id) ON DELETE RESTRICT, 
	CONSTRAINT uq_versions_adapter_id_number UNIQUE (adapter_id, number), 
	CONSTRAINT uq_versions_latest_of UNIQUE (latest_of)
);
INSERT INTO "versions" VALUES(1,1,1,'sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f',1,NULL,NULL,NULL,'chat','mit',NULL,'/tmp/adapters/one/adapter0',NULL,'2026-11-21 22:25:04.039452','ann',NULL,NULL);
INSERT INTO "versions" VALUES(2,2,1,'sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf',1,NULL,NULL,NULL,'chat','mit','the First, für Ärzte','/tmp/adapters/one/adapter1',2,'2026-11-21 22:25:04.115626','ann',NULL,NULL);
INSERT INTO "versions" VALUES(3,3,1,'sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2',1,NULL,NULL,NULL,'chat','mit','not for use','/tmp/adapters/one/adapter2',3,'2026-11-21 22:25:04.175695','ann',NULL,NULL);
INSERT INTO "versions" VALUES(4,4,1,'sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299',1,NULL,NULL,NULL,'chat','mit',NULL,'/tmp/adapters/one/adapter3',NULL,'2026-11-21 22:25:04.249715','ann','2026-11-21 22:25:05.035125','ann');
INSERT INTO "versions" VALUES(5,1,2,'sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6',1,NULL,NULL,NULL,NULL,NULL,NULL,'/tmp/adapters/one/next',1,'2026-11-21 22:25:04.337931','ann',NULL,NULL);
INSERT INTO "versions" VALUES(6,5,1,'sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16',1,'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9','0.5*a + 0.5*team/QA-lora','0.5*a@2 + 0.5*team/QA-lora@1',NULL,NULL,'half and half',NULL,5,'2026-11-21 22:25:04.587739','ann',NULL,NULL);
INSERT INTO "versions" VALUES(7,6,1,'sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f',1,'sha256:44b16de08204844dcca5f2c4c74b8fbcca7d4f8e6fd96702b299635b56423c89','0.5*mix@prod + a@1 - 0.25*toxic','0.5*mix@1 + a@1 - 0.25*toxic@1',NULL,NULL,NULL,NULL,6,'2026-11-21 22:25:04.789343','ann',NULL,NULL);
CREATE INDEX ix_events_subject ON events (subject);
CREATE INDEX ix_artifact_files_blob_digest ON artifact_files (blob_digest);
CREATE INDEX ix_realisations_output_digest ON realisations (output_digest);
CREATE INDEX ix_versions_artifact_digest ON versions (artifact_digest);
CREATE INDEX ix_versions_base_model_id ON versions (base_model_id);
CREATE INDEX ix_versions_recipe_digest ON versions (recipe_digest);
CREATE INDEX ix_versions_task ON versions (task);
CREATE INDEX ix_aliases_adapter_id_number ON aliases (adapter_id, number);
CREATE INDEX ix_lineage_parent_id ON lineage (parent_id);
CREATE INDEX ix_publications_repo ON publications (repo);
CREATE INDEX ix_publications_version_id ON publications (version_id);
CREATE INDEX ix_tags_key_value_version_id ON tags ("key", value, version_id);
COMMIT;
