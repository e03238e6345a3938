BEGIN TRANSACTION;
CREATE TABLE adapters (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	name_key VARCHAR NOT NULL, 
	last_version INTEGER DEFAULT '0' NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, seal BIGINT, 
	CONSTRAINT pk_adapters PRIMARY KEY (id), 
	CONSTRAINT ck_adapters_last_version CHECK (last_version >= 0), 
	CONSTRAINT ck_adapters_name_key CHECK (name_key = lower(name)), 
	CONSTRAINT uq_adapters_name_key UNIQUE (name_key)
);
INSERT INTO "adapters" VALUES(1,'a','a',2,'2026-11-22 01:35:58.653187','ann',2788716391778789057);
INSERT INTO "adapters" VALUES(2,'team/QA-lora','team/qa-lora',1,'2026-11-22 01:35:58.760663','ann',3404063331645333021);
INSERT INTO "adapters" VALUES(3,'toxic','toxic',1,'2026-11-22 01:35:58.820776','ann',2372234386215484115);
INSERT INTO "adapters" VALUES(4,'spare','spare',1,'2026-11-22 01:35:58.868762','ann',41268658402808629);
INSERT INTO "adapters" VALUES(5,'mix','mix',1,'2026-11-22 01:35:59.262761','ann',3284200297826326922);
INSERT INTO "adapters" VALUES(6,'far','far',1,'2026-11-22 01:35:59.354893','ann',73510611581496726);
INSERT INTO "adapters" VALUES(7,'theirs','theirs',1,'2026-11-22 01:36:00.637188','ann',2607947066816259358);
CREATE TABLE affected (
	version_id INTEGER NOT NULL, 
	revoked_id INTEGER NOT NULL, 
	CONSTRAINT pk_affected PRIMARY KEY (version_id, revoked_id), 
	CONSTRAINT fk_affected_version_id FOREIGN KEY(version_id) REFERENCES versions (id) ON DELETE RESTRICT, 
	CONSTRAINT fk_affected_revoked_id FOREIGN KEY(revoked_id) REFERENCES revocations (version_id) ON DELETE RESTRICT
);
INSERT INTO "affected" VALUES(5,3);
INSERT INTO "affected" VALUES(7,3);
INSERT INTO "affected" VALUES(6,3);
INSERT INTO "affected" VALUES(8,3);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE aliases (
	adapter_id INTEGER NOT NULL, 
	alias_key VARCHAR NOT NULL, 
	alias VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	updated_at DATETIME NOT NULL, 
	updated_by TEXT NOT NULL, 
	protected BOOLEAN DEFAULT 0 NOT NULL, seal BIGINT, 
	CONSTRAINT pk_aliases PRIMARY KEY (adapter_id, alias_key), 
	CONSTRAINT ck_aliases_alias_key CHECK (alias_key = lower(alias)), 
	CONSTRAINT fk_aliases_adapter_id_number FOREIGN KEY(adapter_id, number) REFERENCES versions (adapter_id, number) ON DELETE RESTRICT, 
	CONSTRAINT fk_aliases_version_id FOREIGN KEY(version_id) REFERENCES versions (id) ON DELETE RESTRICT
);
INSERT INTO "aliases" VALUES(5,'prod','Prod',1,6,'2026-11-22 01:35:59.291171','ann',0,3844165018907465067);
CREATE TABLE artifact_files (
	artifact_digest VARCHAR NOT NULL, 
	path VARCHAR NOT NULL, 
	blob_digest VARCHAR NOT NULL, seal BIGINT, 
	CONSTRAINT pk_artifact_files PRIMARY KEY (artifact_digest, path), 
	CONSTRAINT fk_artifact_files_artifact_digest FOREIGN KEY(artifact_digest) REFERENCES artifacts (digest) ON DELETE RESTRICT, 
	CONSTRAINT fk_artifact_files_blob_digest FOREIGN KEY(blob_digest) REFERENCES blobs (digest) ON DELETE RESTRICT
);
INSERT INTO "artifact_files" VALUES('sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f','adapter_config.json','sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4',3165367441709050793);
INSERT INTO "artifact_files" VALUES('sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f','adapter_model.safetensors','sha256:1badf4e9814eeeb4906bce25fa41185b83623c87031b21d29356a01a9b82efb2',27964958182680360);
INSERT INTO "artifact_files" VALUES('sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf','adapter_config.json','sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4',1826064411241936554);
INSERT INTO "artifact_files" VALUES('sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf','adapter_model.safetensors','sha256:02fe97e820be1addacb0b80a51e8733fcbd4f3e64f84af016e8d851e1e2577cc',3093119298265387702);
INSERT INTO "artifact_files" VALUES('sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2','adapter_config.json','sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4',1998442903470652687);
INSERT INTO "artifact_files" VALUES('sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2','adapter_model.safetensors','sha256:f9c78384637a593c8a77f65bfcc65679f0c2b6f8bce856b3fea5e649d7171a02',4391726652834685412);
INSERT INTO "artifact_files" VALUES('sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299','adapter_config.json','sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4',1833669625273501331);
INSERT INTO "artifact_files" VALUES('sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299','adapter_model.safetensors','sha256:07e9eb1305cd188b247611a52b3b59c1f58ebf52d161c051c6f7268079b83c9d',1443631875043406488);
INSERT INTO "artifact_files" VALUES('sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6','adapter_config.json','sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4',3323972834966451500);
INSERT INTO "artifact_files" VALUES('sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6','adapter_model.safetensors','sha256:ed2b7e9476f6e6f6b28b6e2343c9fe94be5ed2742d834e8811e4e75444cb4333',4174552324152601572);
INSERT INTO "artifact_files" VALUES('sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16','adapter_config.json','sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785',3610995837717354268);
INSERT INTO "artifact_files" VALUES('sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16','adapter_model.safetensors','sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832',2604775589305484862);
INSERT INTO "artifact_files" VALUES('sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f','adapter_config.json','sha256:f4d920c9c92e53bd29011d54a46a638338a4bd46831fc92a32cbc098dc24b678',988391777148641992);
INSERT INTO "artifact_files" VALUES('sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f','adapter_model.safetensors','sha256:2d1223d66397895968325f73120908926991debe82c95b7b40d37f59e734acda',1428887805210875944);
INSERT INTO "artifact_files" VALUES('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e','config.json','sha256:87bbd2e1bf3d2f1cae8ddb87b0083b641fb7263dbb5133d01e39ab662bfade85',3063460501206013890);
INSERT INTO "artifact_files" VALUES('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e','generation_config.json','sha256:1113738beda64787778c7058b7689d0b4fc2e402c0c5b552916168a0e551a393',2138500470692961964);
INSERT INTO "artifact_files" VALUES('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e','model.safetensors','sha256:745f2d9763207abd571c7f6ef822e23adde3fb5c28d4f5dda9f3e4d3fe80493a',4152037053114130041);
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
	created_at DATETIME NOT NULL, seal BIGINT, 
	CONSTRAINT pk_artifacts PRIMARY KEY (digest), 
	CONSTRAINT ck_artifacts_digest CHECK (digest LIKE 'sha256:%'), 
	CONSTRAINT ck_artifacts_target CHECK (target IN ('adapter', 'model'))
);
INSERT INTO "artifacts" VALUES('sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f','adapter','lora',2,128,1,'float32',1216,'[]','2026-11-22 01:35:58.658065',4380997819345932952);
INSERT INTO "artifacts" VALUES('sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf','adapter','lora',2,128,1,'float32',1216,'[]','2026-11-22 01:35:58.761487',497775760912813996);
INSERT INTO "artifacts" VALUES('sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2','adapter','lora',2,128,1,'float32',1216,'[]','2026-11-22 01:35:58.821564',3105337149429076931);
INSERT INTO "artifacts" VALUES('sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299','adapter','lora',2,128,1,'float32',1216,'[]','2026-11-22 01:35:58.869422',947901631827143806);
INSERT INTO "artifacts" VALUES('sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6','adapter','lora',2,128,1,'float32',1216,'[]','2026-11-22 01:35:58.953981',3457258589746647011);
INSERT INTO "artifacts" VALUES('sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16','adapter','lora',4,256,1,'float32',2097,'[]','2026-11-22 01:35:59.264379',4235033815947374425);
INSERT INTO "artifacts" VALUES('sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f','adapter','lora',8,512,1,'float32',3121,'[]','2026-11-22 01:35:59.360866',1068404525436701205);
INSERT INTO "artifacts" VALUES('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e','model','model',NULL,21664,21,'float32',89668,'[]','2026-11-22 01:35:59.452686',3085439180767034870);
CREATE TABLE base_aliases (
	alias_key VARCHAR NOT NULL, 
	alias VARCHAR NOT NULL, 
	base_model_id INTEGER NOT NULL, 
	updated_at DATETIME NOT NULL, 
	updated_by TEXT NOT NULL, seal BIGINT, 
	CONSTRAINT pk_base_aliases PRIMARY KEY (alias_key), 
	CONSTRAINT ck_base_aliases_alias_key CHECK (alias_key = lower(alias)), 
	CONSTRAINT fk_base_aliases_base_model_id FOREIGN KEY(base_model_id) REFERENCES base_models (id) ON DELETE RESTRICT
);
INSERT INTO "base_aliases" VALUES('tiny','tiny',1,'2026-11-22 01:36:00.390697','ann',549295840815044968);
CREATE TABLE base_layouts (
	fingerprint VARCHAR NOT NULL, 
	layout JSON NOT NULL, 
	created_at DATETIME NOT NULL, seal BIGINT, 
	CONSTRAINT pk_base_layouts PRIMARY KEY (fingerprint)
);
INSERT INTO "base_layouts" VALUES('sha256:3ce55d2b756cc55523e47280b435b5deb9dfb7fdc11120e35c15f89ab4fbf24b','{"format": 1, "config": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": false, "vocab_size": 96}, "tensors": {"lm_head.weight": ["float32", 96, 32], "model.embed_tokens.weight": ["float32", 96, 32], "model.layers.0.input_layernorm.weight": ["float32", 32], "model.layers.0.mlp.down_proj.weight": ["float32", 32, 48], "model.layers.0.mlp.gate_proj.weight": ["float32", 48, 32], "model.layers.0.mlp.up_proj.weight": ["float32", 48, 32], "model.layers.0.post_attention_layernorm.weight": ["float32", 32], "model.layers.0.self_attn.k_proj.weight": ["float32", 16, 32], "model.layers.0.self_attn.o_proj.weight": ["float32", 32, 32], "model.layers.0.self_attn.q_proj.weight": ["float32", 32, 32], "model.layers.0.self_attn.v_proj.weight": ["float32", 16, 32], "model.layers.1.input_layernorm.weight": ["float32", 32], "model.layers.1.mlp.down_proj.weight": ["float32", 32, 48], "model.layers.1.mlp.gate_proj.weight": ["float32", 48, 32], "model.layers.1.mlp.up_proj.weight": ["float32", 48, 32], "model.layers.1.post_attention_layernorm.weight": ["float32", 32], "model.layers.1.self_attn.k_proj.weight": ["float32", 16, 32], "model.layers.1.self_attn.o_proj.weight": ["float32", 32, 32], "model.layers.1.self_attn.q_proj.weight": ["float32", 32, 32], "model.layers.1.self_attn.v_proj.weight": ["float32", 16, 32], "model.norm.weight": ["float32", 32]}}','2026-11-22 01:35:59.451575',2009462668660426613);
CREATE TABLE base_models (
	id INTEGER NOT NULL, 
	repo VARCHAR NOT NULL, 
	revision VARCHAR NOT NULL, 
	fingerprint VARCHAR, license TEXT, seal BIGINT, 
	CONSTRAINT pk_base_models PRIMARY KEY (id), 
	CONSTRAINT ck_base_models_repo CHECK (repo <> ''), 
	CONSTRAINT uq_base_models_repo_revision UNIQUE (repo, revision)
);
INSERT INTO "base_models" VALUES(1,'tiny/base','','sha256:3ce55d2b756cc55523e47280b435b5deb9dfb7fdc11120e35c15f89ab4fbf24b','mit',4097763431071770073);
CREATE TABLE blobs (
	digest VARCHAR NOT NULL, 
	size BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, seal BIGINT, 
	CONSTRAINT pk_blobs PRIMARY KEY (digest), 
	CONSTRAINT ck_blobs_digest CHECK (digest LIKE 'sha256:%'), 
	CONSTRAINT ck_blobs_size CHECK (size >= 0)
);
INSERT INTO "blobs" VALUES('sha256:1badf4e9814eeeb4906bce25fa41185b83623c87031b21d29356a01a9b82efb2',792,'2026-11-22 01:35:58.657654',840677855120640736);
INSERT INTO "blobs" VALUES('sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4',424,'2026-11-22 01:35:58.657991',1187744497570767594);
INSERT INTO "blobs" VALUES('sha256:02fe97e820be1addacb0b80a51e8733fcbd4f3e64f84af016e8d851e1e2577cc',792,'2026-11-22 01:35:58.761338',3956025820999997225);
INSERT INTO "blobs" VALUES('sha256:f9c78384637a593c8a77f65bfcc65679f0c2b6f8bce856b3fea5e649d7171a02',792,'2026-11-22 01:35:58.821485',1984312749765079730);
INSERT INTO "blobs" VALUES('sha256:07e9eb1305cd188b247611a52b3b59c1f58ebf52d161c051c6f7268079b83c9d',792,'2026-11-22 01:35:58.869291',456588175225849447);
INSERT INTO "blobs" VALUES('sha256:ed2b7e9476f6e6f6b28b6e2343c9fe94be5ed2742d834e8811e4e75444cb4333',792,'2026-11-22 01:35:58.953927',1344439801507794176);
INSERT INTO "blobs" VALUES('sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785',449,'2026-11-22 01:35:59.264236',4445331364400206327);
INSERT INTO "blobs" VALUES('sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832',1648,'2026-11-22 01:35:59.264326',78398902257845346);
INSERT INTO "blobs" VALUES('sha256:2d1223d66397895968325f73120908926991debe82c95b7b40d37f59e734acda',2672,'2026-11-22 01:35:59.360687',1261959373556556151);
INSERT INTO "blobs" VALUES('sha256:f4d920c9c92e53bd29011d54a46a638338a4bd46831fc92a32cbc098dc24b678',449,'2026-11-22 01:35:59.360811',1858752918818525229);
INSERT INTO "blobs" VALUES('sha256:1113738beda64787778c7058b7689d0b4fc2e402c0c5b552916168a0e551a393',195,'2026-11-22 01:35:59.452497',1023055931488683730);
INSERT INTO "blobs" VALUES('sha256:745f2d9763207abd571c7f6ef822e23adde3fb5c28d4f5dda9f3e4d3fe80493a',88760,'2026-11-22 01:35:59.452591',1593836058251088525);
INSERT INTO "blobs" VALUES('sha256:87bbd2e1bf3d2f1cae8ddb87b0083b641fb7263dbb5133d01e39ab662bfade85',713,'2026-11-22 01:35:59.452640',1793204048118967735);
CREATE TABLE evaluations (
	id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	metric VARCHAR NOT NULL, 
	dataset VARCHAR NOT NULL, 
	split VARCHAR NOT NULL, 
	value DOUBLE NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, seal BIGINT, 
	CONSTRAINT pk_evaluations PRIMARY KEY (id), 
	CONSTRAINT fk_evaluations_version_id FOREIGN KEY(version_id) REFERENCES versions (id) ON DELETE RESTRICT, 
	CONSTRAINT uq_evaluations_version_id_dataset_split_metric UNIQUE (version_id, dataset, split, metric)
);
INSERT INTO "evaluations" VALUES(1,6,'accuracy','d','test',0.5,'2026-11-22 01:35:59.459338','ann',388789711940624378);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	actor TEXT NOT NULL, 
	action VARCHAR NOT NULL, 
	subject VARCHAR NOT NULL, 
	detail JSON NOT NULL, seal BIGINT, 
	CONSTRAINT pk_events PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1,'2026-11-22 01:35:58.674217','ann','import','a@1','{"digest": "sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f", "expression": null, "source": "/tmp/adapters/one/adapter0"}',727272706175827896);
INSERT INTO "events" VALUES(2,'2026-11-22 01:35:58.762068','ann','import','team/QA-lora@1','{"digest": "sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf", "expression": null, "source": "/tmp/adapters/one/adapter1"}',4518383344320316381);
INSERT INTO "events" VALUES(3,'2026-11-22 01:35:58.822401','ann','import','toxic@1','{"digest": "sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2", "expression": null, "source": "/tmp/adapters/one/adapter2"}',1372412846358436967);
INSERT INTO "events" VALUES(4,'2026-11-22 01:35:58.870004','ann','import','spare@1','{"digest": "sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299", "expression": null, "source": "/tmp/adapters/one/adapter3"}',2721319924904648142);
INSERT INTO "events" VALUES(5,'2026-11-22 01:35:58.960721','ann','import','a@2','{"digest": "sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6", "expression": null, "source": "/tmp/adapters/one/next"}',2298322432787383156);
INSERT INTO "events" VALUES(6,'2026-11-22 01:35:59.266219','ann','compose','mix@1','{"digest": "sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16", "expression": "0.5*a + 0.5*team/QA-lora", "source": null}',1997696429406600178);
INSERT INTO "events" VALUES(7,'2026-11-22 01:35:59.296660','ann','alias','mix','{"alias": "Prod", "from": null, "to": 1}',1935604178885223772);
INSERT INTO "events" VALUES(8,'2026-11-22 01:35:59.361671','ann','compose','far@1','{"digest": "sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f", "expression": "0.5*mix@prod + a@1 - 0.25*toxic", "source": null}',1353666938036638638);
INSERT INTO "events" VALUES(9,'2026-11-22 01:35:59.453331','ann','fingerprint','tiny/base','{"fingerprint": "sha256:3ce55d2b756cc55523e47280b435b5deb9dfb7fdc11120e35c15f89ab4fbf24b"}',938076158920785208);
INSERT INTO "events" VALUES(10,'2026-11-22 01:35:59.453426','ann','materialize','mix@1','{"target": "model", "digest": "sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e"}',2802972448055069174);
INSERT INTO "events" VALUES(11,'2026-11-22 01:35:59.466197','ann','evaluate','mix@1','{"metric": "accuracy", "dataset": "d", "split": "test", "value": 0.5, "previous": null}',1426093014041615957);
INSERT INTO "events" VALUES(12,'2026-11-22 01:35:59.475149','ann','delete','spare@1','{"digest": "sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299"}',3093766472258775854);
INSERT INTO "events" VALUES(13,'2026-11-22 01:36:00.337138','ann','publish','mix@1','{"repo": "team/mix", "revision": "main", "target": "adapter", "commit": "f4dd080ea2c695f904d87eb7171f8f185795afd1"}',4048528919884755813);
INSERT INTO "events" VALUES(14,'2026-11-22 01:36:00.404722','ann','base alias','tiny','{"base_model": "tiny/base"}',1532461501425345324);
INSERT INTO "events" VALUES(15,'2026-11-22 01:36:00.443473','ann','rule add','rule 1','{"selector": "mix", "alias": "prod", "repo": "team/other", "revision": null, "target": "adapter", "private": true, "adopt": false, "propose": false, "tag": null, "license": "mit"}',2326637492231110772);
INSERT INTO "events" VALUES(16,'2026-11-22 01:36:00.451863','ann','base license','tiny/base','{"license": "mit", "previous": null}',3468161643697814998);
INSERT INTO "events" VALUES(17,'2026-11-22 01:36:00.662277','ann','import','theirs@1','{"digest": "sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16", "expression": "0.5*a + 0.5*team/QA-lora", "source": "hf://team/mix@f4dd080ea2c695f904d87eb7171f8f185795afd1", "origin": "hf://team/mix@f4dd080ea2c695f904d87eb7171f8f185795afd1#mix@1"}',805579539547867459);
INSERT INTO "events" VALUES(18,'2026-11-22 01:36:00.787337','ann','unpublish','mix@1','{"repo": "team/mix", "revision": "main", "commit": "d868930d8a6b7b8b714a321fa9a74a5cd797d9ee", "deleted": false, "reason": "moved"}',383676409551530672);
INSERT INTO "events" VALUES(19,'2026-11-22 01:36:00.948734','ann','publish','mix@1','{"repo": "team/again", "revision": "main", "target": "adapter", "commit": "5284e9dc3db58356e378647bce460e3e09e2e8ef"}',637973752604998150);
INSERT INTO "events" VALUES(20,'2026-11-22 01:36:00.960289','ann','revoke','toxic@1','{"reason": "poisoned", "affected": 4}',3266949535957635062);
CREATE TABLE followed (
	version_id INTEGER NOT NULL, 
	adapter_id INTEGER NOT NULL, 
	alias_key VARCHAR NOT NULL, 
	pinned_id INTEGER NOT NULL, seal BIGINT, 
	CONSTRAINT pk_followed PRIMARY KEY (version_id, adapter_id, alias_key), 
	CONSTRAINT fk_followed_version_id FOREIGN KEY(version_id) REFERENCES versions (id) ON DELETE RESTRICT, 
	CONSTRAINT fk_followed_adapter_id FOREIGN KEY(adapter_id) REFERENCES adapters (id) ON DELETE RESTRICT, 
	CONSTRAINT fk_followed_pinned_id FOREIGN KEY(pinned_id) REFERENCES versions (id) ON DELETE RESTRICT
);
INSERT INTO "followed" VALUES(6,1,'',5,3639806512712015534);
INSERT INTO "followed" VALUES(6,2,'',2,189601135202751082);
INSERT INTO "followed" VALUES(7,5,'prod',6,4304998136449114834);
INSERT INTO "followed" VALUES(7,3,'',3,1166664835273810246);
CREATE TABLE lineage (
	child_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	parent_id INTEGER NOT NULL, 
	relation VARCHAR NOT NULL, 
	coefficient TEXT, seal BIGINT, 
	CONSTRAINT pk_lineage PRIMARY KEY (child_id, position), 
	CONSTRAINT ck_lineage_relation CHECK (relation IN ('input', 'declared')), 
	CONSTRAINT ck_lineage_acyclic CHECK (parent_id < child_id), 
	CONSTRAINT fk_lineage_child_id FOREIGN KEY(child_id) REFERENCES versions (id) ON DELETE RESTRICT, 
	CONSTRAINT fk_lineage_parent_id FOREIGN KEY(parent_id) REFERENCES versions (id) ON DELETE RESTRICT, 
	CONSTRAINT uq_lineage_child_id_relation_parent_id UNIQUE (child_id, relation, parent_id)
);
INSERT INTO "lineage" VALUES(5,0,3,'declared',NULL,3121646156792611880);
INSERT INTO "lineage" VALUES(6,0,5,'input','0.5',4532541546181987391);
INSERT INTO "lineage" VALUES(6,1,2,'input','0.5',2162320771178068227);
INSERT INTO "lineage" VALUES(7,0,6,'input','0.5',2040370940991467951);
INSERT INTO "lineage" VALUES(7,1,1,'input','1',715403371472176961);
INSERT INTO "lineage" VALUES(7,2,3,'input','-0.25',2992722294071049858);
INSERT INTO "lineage" VALUES(8,0,5,'input','0.5',3043625165692525767);
INSERT INTO "lineage" VALUES(8,1,2,'input','0.5',3866956895256348792);
CREATE TABLE name_words (
	word VARCHAR NOT NULL, 
	adapter_id INTEGER NOT NULL, 
	CONSTRAINT pk_name_words PRIMARY KEY (word, adapter_id), 
	CONSTRAINT fk_name_words_adapter_id FOREIGN KEY(adapter_id) REFERENCES adapters (id) ON DELETE RESTRICT
);
INSERT INTO "name_words" VALUES('a',1);
INSERT INTO "name_words" VALUES('team',2);
INSERT INTO "name_words" VALUES('qa',2);
INSERT INTO "name_words" VALUES('lora',2);
INSERT INTO "name_words" VALUES('toxic',3);
INSERT INTO "name_words" VALUES('spare',4);
INSERT INTO "name_words" VALUES('mix',5);
INSERT INTO "name_words" VALUES('far',6);
INSERT INTO "name_words" VALUES('theirs',7);
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
	pull_request INTEGER, 
	tag VARCHAR, 
	tagged BOOLEAN DEFAULT 0 NOT NULL, 
	seen VARCHAR, 
	withdrawn_at DATETIME, 
	withdrawn_by TEXT, 
	reason TEXT, seal BIGINT, 
	CONSTRAINT pk_publications PRIMARY KEY (id), 
	CONSTRAINT ck_publications_target CHECK (target IN ('adapter', 'model')), 
	CONSTRAINT ck_publications_state CHECK (state IN ('pending', 'done', 'failed', 'withdrawn')), 
	CONSTRAINT ck_publications_finished CHECK ((state = 'pending') = (finished_at IS NULL)), 
	CONSTRAINT ck_publications_commit CHECK (state NOT IN ('done', 'withdrawn') OR "commit" IS NOT NULL), 
	CONSTRAINT ck_publications_withdrawn CHECK ((state = 'withdrawn') = (withdrawn_at IS NOT NULL)), 
	CONSTRAINT ck_publications_pull_request CHECK (pull_request >= 0), 
	CONSTRAINT fk_publications_version_id FOREIGN KEY(version_id) REFERENCES versions (id) ON DELETE RESTRICT, 
	CONSTRAINT uq_publications_publish_id UNIQUE (publish_id)
);
INSERT INTO "publications" VALUES(1,'acfccfb404114f04802e852860c92e2c',6,'team/mix','main','adapter','withdrawn','f4dd080ea2c695f904d87eb7171f8f185795afd1','http://127.0.0.1:36893/team/mix/commit/f4dd080ea2c695f904d87eb7171f8f185795afd1','{"adapter_config.json": "sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785", "adapter_model.safetensors": "sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832", "README.md": "sha256:536c62bad84dd628b2d691c90b72f2813ebbb174943a17a11148ec0f526d8602", "provenance.json": "sha256:08489afc4f240e148563f0bf8a4333fffcce86f35eacd27235e8f9375e664398"}',NULL,'2026-11-22 01:36:00.167491','ann','2026-11-22 01:36:00.335247',NULL,NULL,0,NULL,'2026-11-22 01:36:00.785789','ann','moved',1740695376445485341);
INSERT INTO "publications" VALUES(2,'1e41c2ec4b964365b630c223618e8d58',6,'team/again','main','adapter','done','5284e9dc3db58356e378647bce460e3e09e2e8ef','http://127.0.0.1:36893/team/again/commit/5284e9dc3db58356e378647bce460e3e09e2e8ef','{"adapter_config.json": "sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785", "adapter_model.safetensors": "sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832", "README.md": "sha256:cdda2fd10347d67c5caac6d2b61dd592e8b0fa65c1ff69ea0becadc6a4fb395b", "provenance.json": "sha256:08489afc4f240e148563f0bf8a4333fffcce86f35eacd27235e8f9375e664398"}',NULL,'2026-11-22 01:36:00.902798','ann','2026-11-22 01:36:00.948222',NULL,NULL,0,NULL,NULL,NULL,NULL,2030267175904410160);
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
	created_at DATETIME NOT NULL, seal BIGINT, 
	CONSTRAINT pk_realisations PRIMARY KEY (id), 
	CONSTRAINT ck_realisations_target CHECK (target IN ('adapter', 'model')), 
	CONSTRAINT fk_realisations_recipe_digest FOREIGN KEY(recipe_digest) REFERENCES recipes (digest) ON DELETE RESTRICT, 
	CONSTRAINT uq_realisations_output UNIQUE (recipe_digest, target, variant, output_digest)
);
INSERT INTO "realisations" VALUES(1,'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9','adapter','','sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16','cpu','float32',0,'{"adapter-registry": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"}',7.99935959948925301432e-02,'[]','{}','2026-11-22 01:35:59.266502',1878836798061722391);
INSERT INTO "realisations" VALUES(2,'sha256:44b16de08204844dcca5f2c4c74b8fbcca7d4f8e6fd96702b299635b56423c89','adapter','','sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f','cpu','float32',0,'{"adapter-registry": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"}',2.53272529953392222523e-02,'[]','{}','2026-11-22 01:35:59.361832',503188106521855828);
INSERT INTO "realisations" VALUES(3,'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9','model','sha256:3c6319a49354b2c1cce45641d4b0ec34b053fa1bb3cb5b83260fcf2b7e5f9369','sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e','cpu','as the base',0,'{"adapter-registry": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"}',5.20749849965795874595e-02,'[]','{"config.json": {"size": 713, "sha256": "sha256:87bbd2e1bf3d2f1cae8ddb87b0083b641fb7263dbb5133d01e39ab662bfade85"}, "generation_config.json": {"size": 195, "sha256": "sha256:1113738beda64787778c7058b7689d0b4fc2e402c0c5b552916168a0e551a393"}, "model.safetensors": {"size": 88760, "sha256": "sha256:745f2d9763207abd571c7f6ef822e23adde3fb5c28d4f5dda9f3e4d3fe80493a"}}','2026-11-22 01:35:59.453190',1652766979393091605);
CREATE TABLE recipes (
	digest VARCHAR NOT NULL, 
	canonical TEXT NOT NULL, 
	created_at DATETIME NOT NULL, seal BIGINT, 
	CONSTRAINT pk_recipes PRIMARY KEY (digest), 
	CONSTRAINT ck_recipes_digest CHECK (digest LIKE 'sha256:%')
);
INSERT INTO "recipes" VALUES('sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9','{"algorithm":1,"dtype":"float32","expression":{"sum":[["0.5",{"adapter":"sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6"}],["0.5",{"adapter":"sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf"}]]},"format":1,"kind":"lora","seed":0}','2026-11-22 01:35:59.264614',1580093609752490896);
INSERT INTO "recipes" VALUES('sha256:44b16de08204844dcca5f2c4c74b8fbcca7d4f8e6fd96702b299635b56423c89','{"algorithm":1,"dtype":"float32","expression":{"sum":[["0.5",{"adapter":"sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16"}],["-0.25",{"adapter":"sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2"}],["1",{"adapter":"sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f"}]]},"format":1,"kind":"lora","seed":0}','2026-11-22 01:35:59.361108',1872286902990379158);
CREATE TABLE revocations (
	version_id INTEGER NOT NULL, 
	reason TEXT NOT NULL, 
	revoked_at DATETIME NOT NULL, 
	revoked_by TEXT NOT NULL, seal BIGINT, 
	CONSTRAINT pk_revocations PRIMARY KEY (version_id), 
	CONSTRAINT fk_revocations_version_id FOREIGN KEY(version_id) REFERENCES versions (id) ON DELETE RESTRICT
);
INSERT INTO "revocations" VALUES(3,'poisoned','2026-11-22 01:36:00.952652','ann',311372462834482200);
CREATE TABLE rules (
	id INTEGER NOT NULL, 
	selector VARCHAR NOT NULL, 
	alias VARCHAR NOT NULL, 
	repo VARCHAR NOT NULL, 
	revision VARCHAR NOT NULL, 
	target VARCHAR NOT NULL, 
	private BOOLEAN NOT NULL, 
	adopt BOOLEAN NOT NULL, 
	propose BOOLEAN NOT NULL, 
	tag VARCHAR, 
	license VARCHAR, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, seal BIGINT, 
	CONSTRAINT pk_rules PRIMARY KEY (id), 
	CONSTRAINT ck_rules_target CHECK (target IN ('adapter', 'model')), 
	CONSTRAINT uq_rules_what_where UNIQUE (selector, alias, repo, revision, target)
);
INSERT INTO "rules" VALUES(1,'mix','prod','team/other','','adapter',1,0,0,NULL,'mit','2026-11-22 01:36:00.423587','ann',2903396234973650190);
CREATE TABLE tags (
	version_id INTEGER NOT NULL, 
	"key" VARCHAR NOT NULL, 
	value VARCHAR NOT NULL, seal BIGINT, 
	CONSTRAINT pk_tags PRIMARY KEY (version_id, "key"), 
	CONSTRAINT fk_tags_version_id FOREIGN KEY(version_id) REFERENCES versions (id) ON DELETE RESTRICT
);
INSERT INTO "tags" VALUES(1,'stage','new',3475069497575401192);
INSERT INTO "tags" VALUES(1,'k','v',3319230674521153707);
INSERT INTO "tags" VALUES(2,'stage','new',243831419689427887);
INSERT INTO "tags" VALUES(2,'k','v',3279825109842324369);
INSERT INTO "tags" VALUES(3,'stage','new',3340744456687701614);
INSERT INTO "tags" VALUES(3,'k','v',3080847293307813572);
INSERT INTO "tags" VALUES(4,'stage','new',4105890810821278381);
INSERT INTO "tags" VALUES(4,'k','v',1125069860860915249);
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
	deleted_by TEXT, source_revision TEXT, origin TEXT, seal BIGINT, 
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
INSERT INTO "versions" VALUES(1,1,1,'sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f',1,NULL,NULL,NULL,'chat','mit',NULL,'/tmp/adapters/one/adapter0',NULL,'2026-11-22 01:35:58.666951','ann',NULL,NULL,NULL,NULL,3733839896498793658);
INSERT INTO "versions" VALUES(2,2,1,'sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf',1,NULL,NULL,NULL,'chat','mit','the First, für Ärzte','/tmp/adapters/one/adapter1',2,'2026-11-22 01:35:58.761752','ann',NULL,NULL,NULL,NULL,570213707858768002);
INSERT INTO "versions" VALUES(3,3,1,'sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2',1,NULL,NULL,NULL,'chat','mit','not for use','/tmp/adapters/one/adapter2',3,'2026-11-22 01:35:58.821922','ann',NULL,NULL,NULL,NULL,3440272992523451240);
INSERT INTO "versions" VALUES(4,4,1,'sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299',1,NULL,NULL,NULL,'chat','mit',NULL,'/tmp/adapters/one/adapter3',NULL,'2026-11-22 01:35:58.869692','ann','2026-11-22 01:35:59.472165','ann',NULL,NULL,247137112964150541);
INSERT INTO "versions" VALUES(5,1,2,'sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6',1,NULL,NULL,NULL,NULL,NULL,NULL,'/tmp/adapters/one/next',1,'2026-11-22 01:35:58.954324','ann',NULL,NULL,NULL,NULL,2114401764592016763);
INSERT INTO "versions" VALUES(6,5,1,'sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16',1,'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9','0.5*a + 0.5*team/QA-lora','0.5*a@2 + 0.5*team/QA-lora@1',NULL,NULL,'half and half',NULL,5,'2026-11-22 01:35:59.265302','ann',NULL,NULL,NULL,NULL,294755919580901751);
INSERT INTO "versions" VALUES(7,6,1,'sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f',1,'sha256:44b16de08204844dcca5f2c4c74b8fbcca7d4f8e6fd96702b299635b56423c89','0.5*mix@prod + a@1 - 0.25*toxic','0.5*mix@1 + a@1 - 0.25*toxic@1',NULL,NULL,NULL,NULL,6,'2026-11-22 01:35:59.361259','ann',NULL,NULL,NULL,NULL,681227478876675127);
INSERT INTO "versions" VALUES(8,7,1,'sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16',1,'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9','0.5*a + 0.5*team/QA-lora','0.5*a@2 + 0.5*team/QA-lora@1',NULL,NULL,NULL,'hf://team/mix@f4dd080ea2c695f904d87eb7171f8f185795afd1',7,'2026-11-22 01:36:00.661764','ann',NULL,NULL,'main','hf://team/mix@f4dd080ea2c695f904d87eb7171f8f185795afd1#mix@1',20856685649805100);
CREATE TABLE words (
	word VARCHAR NOT NULL, 
	version_id INTEGER NOT NULL, 
	CONSTRAINT pk_words PRIMARY KEY (word, version_id), 
	CONSTRAINT fk_words_version_id FOREIGN KEY(version_id) REFERENCES versions (id) ON DELETE RESTRICT
);
INSERT INTO "words" VALUES('stage',1);
INSERT INTO "words" VALUES('k',1);
INSERT INTO "words" VALUES('new',1);
INSERT INTO "words" VALUES('v',1);
INSERT INTO "words" VALUES('the',2);
INSERT INTO "words" VALUES('first',2);
INSERT INTO "words" VALUES('für',2);
INSERT INTO "words" VALUES('ärzte',2);
INSERT INTO "words" VALUES('stage',2);
INSERT INTO "words" VALUES('k',2);
INSERT INTO "words" VALUES('new',2);
INSERT INTO "words" VALUES('v',2);
INSERT INTO "words" VALUES('not',3);
INSERT INTO "words" VALUES('for',3);
INSERT INTO "words" VALUES('use',3);
INSERT INTO "words" VALUES('stage',3);
INSERT INTO "words" VALUES('k',3);
INSERT INTO "words" VALUES('new',3);
INSERT INTO "words" VALUES('v',3);
INSERT INTO "words" VALUES('stage',4);
INSERT INTO "words" VALUES('k',4);
INSERT INTO "words" VALUES('new',4);
INSERT INTO "words" VALUES('v',4);
INSERT INTO "words" VALUES('half',6);
INSERT INTO "words" VALUES('and',6);
CREATE INDEX ix_artifact_files_blob_digest ON artifact_files (blob_digest);
CREATE INDEX ix_realisations_output_digest ON realisations (output_digest);
CREATE INDEX ix_versions_artifact_digest ON versions (artifact_digest);
CREATE INDEX ix_versions_recipe_digest ON versions (recipe_digest);
CREATE INDEX ix_lineage_parent_id ON lineage (parent_id);
CREATE INDEX ix_tags_key_value_version_id ON tags ("key", value, version_id);
CREATE INDEX ix_base_aliases_base_model_id ON base_aliases (base_model_id);
CREATE INDEX ix_followed_adapter_id_alias_key ON followed (adapter_id, alias_key);
CREATE INDEX ix_affected_revoked_id ON affected (revoked_id);
CREATE INDEX ix_words_version_id ON words (version_id);
CREATE INDEX ix_name_words_adapter_id ON name_words (adapter_id);
CREATE INDEX ix_aliases_adapter_id_number ON aliases (adapter_id, number);
CREATE INDEX ix_aliases_version_id ON aliases (version_id);
CREATE INDEX ix_aliases_alias_key_version_id ON aliases (alias_key, version_id);
CREATE INDEX ix_base_models_fingerprint ON base_models (fingerprint);
CREATE INDEX ix_artifacts_kind ON artifacts (kind);
CREATE INDEX ix_artifacts_rank ON artifacts (rank);
CREATE INDEX ix_artifacts_size_digest ON artifacts (size, digest);
CREATE INDEX ix_artifacts_parameters_digest ON artifacts (parameters, digest);
CREATE INDEX ix_versions_adapter_id_id ON versions (adapter_id, id);
CREATE INDEX ix_versions_base_model_id_id ON versions (base_model_id, id);
CREATE INDEX ix_versions_task_id ON versions (task, id);
CREATE INDEX ix_versions_license_id ON versions (license, id);
CREATE INDEX ix_versions_created_by_id ON versions (created_by, id);
CREATE INDEX ix_versions_created_at ON versions (created_at);
CREATE INDEX ix_evaluations_metric_value_version_id ON evaluations (metric, value, version_id);
CREATE INDEX ix_events_subject_id ON events (subject, id);
CREATE INDEX ix_events_actor_id ON events (actor, id);
CREATE INDEX ix_events_action_id ON events (action, id);
CREATE INDEX ix_events_at ON events (at);
CREATE INDEX ix_versions_latest ON versions (id) WHERE latest_of IS NOT NULL;
CREATE INDEX ix_publications_version_id ON publications (version_id);
CREATE INDEX ix_publications_repo_revision_id ON publications (repo, revision, id);
COMMIT;
