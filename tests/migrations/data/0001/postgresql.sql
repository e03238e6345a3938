SELECT pg_catalog.set_config('search_path', '', false);
CREATE TABLE public.adapters (
    id bigint NOT NULL,
    name character varying NOT NULL COLLATE pg_catalog."C",
    name_key character varying NOT NULL COLLATE pg_catalog."C",
    last_version integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    CONSTRAINT ck_adapters_last_version CHECK ((last_version >= 0)),
    CONSTRAINT ck_adapters_name_key CHECK (((name_key)::text = lower((name)::text)))
);
CREATE SEQUENCE public.adapters_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.adapters_id_seq OWNED BY public.adapters.id;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.aliases (
    adapter_id bigint NOT NULL,
    alias_key character varying NOT NULL COLLATE pg_catalog."C",
    alias character varying NOT NULL COLLATE pg_catalog."C",
    number integer NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    updated_by text NOT NULL,
    CONSTRAINT ck_aliases_alias_key CHECK (((alias_key)::text = lower((alias)::text)))
);
CREATE TABLE public.artifact_files (
    artifact_digest character varying NOT NULL COLLATE pg_catalog."C",
    path character varying NOT NULL COLLATE pg_catalog."C",
    blob_digest character varying NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.artifacts (
    digest character varying NOT NULL COLLATE pg_catalog."C",
    target character varying NOT NULL COLLATE pg_catalog."C",
    kind character varying NOT NULL COLLATE pg_catalog."C",
    rank integer,
    parameters bigint NOT NULL,
    modules integer NOT NULL,
    dtype character varying NOT NULL COLLATE pg_catalog."C",
    size bigint NOT NULL,
    not_composable jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT ck_artifacts_digest CHECK (((digest)::text ~~ 'sha256:%'::text)),
    CONSTRAINT ck_artifacts_target CHECK (((target)::text = ANY ((ARRAY['adapter'::character varying, 'model'::character varying])::text[])))
);
CREATE TABLE public.base_models (
    id bigint NOT NULL,
    repo character varying NOT NULL COLLATE pg_catalog."C",
    revision character varying NOT NULL COLLATE pg_catalog."C",
    fingerprint character varying COLLATE pg_catalog."C",
    CONSTRAINT ck_base_models_repo CHECK (((repo)::text <> ''::text))
);
CREATE SEQUENCE public.base_models_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.base_models_id_seq OWNED BY public.base_models.id;
CREATE TABLE public.blobs (
    digest character varying NOT NULL COLLATE pg_catalog."C",
    size bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT ck_blobs_digest CHECK (((digest)::text ~~ 'sha256:%'::text)),
    CONSTRAINT ck_blobs_size CHECK ((size >= 0))
);
CREATE TABLE public.evaluations (
    id bigint NOT NULL,
    version_id bigint NOT NULL,
    metric character varying NOT NULL COLLATE pg_catalog."C",
    dataset character varying NOT NULL COLLATE pg_catalog."C",
    split character varying NOT NULL COLLATE pg_catalog."C",
    value double precision NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL
);
CREATE SEQUENCE public.evaluations_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.evaluations_id_seq OWNED BY public.evaluations.id;
CREATE TABLE public.events (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    action character varying NOT NULL COLLATE pg_catalog."C",
    subject character varying NOT NULL COLLATE pg_catalog."C",
    detail jsonb NOT NULL
);
CREATE SEQUENCE public.events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.events_id_seq OWNED BY public.events.id;
CREATE TABLE public.lineage (
    child_id bigint NOT NULL,
    "position" integer NOT NULL,
    parent_id bigint NOT NULL,
    relation character varying NOT NULL COLLATE pg_catalog."C",
    coefficient text,
    CONSTRAINT ck_lineage_acyclic CHECK ((parent_id < child_id)),
    CONSTRAINT ck_lineage_relation CHECK (((relation)::text = ANY ((ARRAY['input'::character varying, 'declared'::character varying])::text[])))
);
CREATE TABLE public.publications (
    id bigint NOT NULL,
    publish_id character varying NOT NULL COLLATE pg_catalog."C",
    version_id bigint NOT NULL,
    repo character varying NOT NULL COLLATE pg_catalog."C",
    revision character varying NOT NULL COLLATE pg_catalog."C",
    target character varying NOT NULL COLLATE pg_catalog."C",
    state character varying NOT NULL COLLATE pg_catalog."C",
    commit character varying COLLATE pg_catalog."C",
    url text,
    files jsonb NOT NULL,
    error text,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT ck_publications_commit CHECK ((((state)::text <> 'done'::text) OR (commit IS NOT NULL))),
    CONSTRAINT ck_publications_finished CHECK ((((state)::text = 'pending'::text) = (finished_at IS NULL))),
    CONSTRAINT ck_publications_state CHECK (((state)::text = ANY ((ARRAY['pending'::character varying, 'done'::character varying, 'failed'::character varying])::text[]))),
    CONSTRAINT ck_publications_target CHECK (((target)::text = ANY ((ARRAY['adapter'::character varying, 'model'::character varying])::text[])))
);
CREATE SEQUENCE public.publications_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.publications_id_seq OWNED BY public.publications.id;
CREATE TABLE public.realisations (
    id bigint NOT NULL,
    recipe_digest character varying NOT NULL COLLATE pg_catalog."C",
    target character varying NOT NULL COLLATE pg_catalog."C",
    variant character varying NOT NULL COLLATE pg_catalog."C",
    output_digest character varying NOT NULL COLLATE pg_catalog."C",
    device character varying NOT NULL COLLATE pg_catalog."C",
    dtype character varying NOT NULL COLLATE pg_catalog."C",
    seed bigint NOT NULL,
    libraries jsonb NOT NULL,
    seconds double precision NOT NULL,
    report jsonb NOT NULL,
    files jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT ck_realisations_target CHECK (((target)::text = ANY ((ARRAY['adapter'::character varying, 'model'::character varying])::text[])))
);
CREATE SEQUENCE public.realisations_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.realisations_id_seq OWNED BY public.realisations.id;
CREATE TABLE public.recipes (
    digest character varying NOT NULL COLLATE pg_catalog."C",
    canonical text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT ck_recipes_digest CHECK (((digest)::text ~~ 'sha256:%'::text))
);
CREATE TABLE public.tags (
    version_id bigint NOT NULL,
    key character varying NOT NULL COLLATE pg_catalog."C",
    value character varying NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.versions (
    id bigint NOT NULL,
    adapter_id bigint NOT NULL,
    number integer NOT NULL,
    artifact_digest character varying NOT NULL COLLATE pg_catalog."C",
    base_model_id bigint NOT NULL,
    recipe_digest character varying COLLATE pg_catalog."C",
    expression text,
    resolved text,
    task text,
    license text,
    note text,
    source text,
    latest_of bigint,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    deleted_at timestamp with time zone,
    deleted_by text,
    CONSTRAINT ck_versions_derived CHECK ((((recipe_digest IS NULL) = (expression IS NULL)) AND ((recipe_digest IS NULL) = (resolved IS NULL)))),
    CONSTRAINT ck_versions_latest_is_live CHECK (((latest_of IS NULL) OR ((latest_of = adapter_id) AND (deleted_at IS NULL)))),
    CONSTRAINT ck_versions_number CHECK ((number >= 1)),
    CONSTRAINT ck_versions_tombstone CHECK (((deleted_at IS NULL) = (deleted_by IS NULL)))
);
CREATE SEQUENCE public.versions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.versions_id_seq OWNED BY public.versions.id;
ALTER TABLE ONLY public.adapters ALTER COLUMN id SET DEFAULT nextval('public.adapters_id_seq'::regclass);
ALTER TABLE ONLY public.base_models ALTER COLUMN id SET DEFAULT nextval('public.base_models_id_seq'::regclass);
ALTER TABLE ONLY public.evaluations ALTER COLUMN id SET DEFAULT nextval('public.evaluations_id_seq'::regclass);
ALTER TABLE ONLY public.events ALTER COLUMN id SET DEFAULT nextval('public.events_id_seq'::regclass);
ALTER TABLE ONLY public.publications ALTER COLUMN id SET DEFAULT nextval('public.publications_id_seq'::regclass);
ALTER TABLE ONLY public.realisations ALTER COLUMN id SET DEFAULT nextval('public.realisations_id_seq'::regclass);
ALTER TABLE ONLY public.versions ALTER COLUMN id SET DEFAULT nextval('public.versions_id_seq'::regclass);
INSERT INTO public.adapters VALUES (2, 'team/QA-lora', 'team/qa-lora', 1, '2026-11-21 22:25:06.385445+00', 'ann');
INSERT INTO public.adapters VALUES (3, 'toxic', 'toxic', 1, '2026-11-21 22:25:06.467989+00', 'ann');
INSERT INTO public.adapters VALUES (4, 'spare', 'spare', 1, '2026-11-21 22:25:06.569358+00', 'ann');
INSERT INTO public.adapters VALUES (1, 'a', 'a', 2, '2026-11-21 22:25:06.24889+00', 'ann');
INSERT INTO public.adapters VALUES (5, 'mix', 'mix', 1, '2026-11-21 22:25:06.80153+00', 'ann');
INSERT INTO public.adapters VALUES (6, 'far', 'far', 1, '2026-11-21 22:25:06.981031+00', 'ann');
INSERT INTO public.alembic_version VALUES ('0001');
INSERT INTO public.aliases VALUES (5, 'prod', 'Prod', 1, '2026-11-21 22:25:06.860483+00', 'ann');
INSERT INTO public.artifact_files VALUES ('sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f', 'adapter_config.json', 'sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4');
INSERT INTO public.artifact_files VALUES ('sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f', 'adapter_model.safetensors', 'sha256:1badf4e9814eeeb4906bce25fa41185b83623c87031b21d29356a01a9b82efb2');
INSERT INTO public.artifact_files VALUES ('sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf', 'adapter_config.json', 'sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4');
INSERT INTO public.artifact_files VALUES ('sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf', 'adapter_model.safetensors', 'sha256:02fe97e820be1addacb0b80a51e8733fcbd4f3e64f84af016e8d851e1e2577cc');
INSERT INTO public.artifact_files VALUES ('sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2', 'adapter_config.json', 'sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4');
INSERT INTO public.artifact_files VALUES ('sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2', 'adapter_model.safetensors', 'sha256:f9c78384637a593c8a77f65bfcc65679f0c2b6f8bce856b3fea5e649d7171a02');
INSERT INTO public.artifact_files VALUES ('sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299', 'adapter_config.json', 'sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4');
INSERT INTO public.artifact_files VALUES ('sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299', 'adapter_model.safetensors', 'sha256:07e9eb1305cd188b247611a52b3b59c1f58ebf52d161c051c6f7268079b83c9d');
INSERT INTO public.artifact_files VALUES ('sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6', 'adapter_config.json', 'sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4');
INSERT INTO public.artifact_files VALUES ('sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6', 'adapter_model.safetensors', 'sha256:ed2b7e9476f6e6f6b28b6e2343c9fe94be5ed2742d834e8811e4e75444cb4333');
INSERT INTO public.artifact_files VALUES ('sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16', 'adapter_config.json', 'sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785');
INSERT INTO public.artifact_files VALUES ('sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16', 'adapter_model.safetensors', 'sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832');
INSERT INTO public.artifact_files VALUES ('sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f', 'adapter_config.json', 'sha256:f4d920c9c92e53bd29011d54a46a638338a4bd46831fc92a32cbc098dc24b678');
INSERT INTO public.artifact_files VALUES ('sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f', 'adapter_model.safetensors', 'sha256:2d1223d66397895968325f73120908926991debe82c95b7b40d37f59e734acda');
INSERT INTO public.artifact_files VALUES ('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e', 'config.json', 'sha256:87bbd2e1bf3d2f1cae8ddb87b0083b641fb7263dbb5133d01e39ab662bfade85');
INSERT INTO public.artifact_files VALUES ('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e', 'generation_config.json', 'sha256:1113738beda64787778c7058b7689d0b4fc2e402c0c5b552916168a0e551a393');
INSERT INTO public.artifact_files VALUES ('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e', 'model.safetensors', 'sha256:745f2d9763207abd571c7f6ef822e23adde3fb5c28d4f5dda9f3e4d3fe80493a');
INSERT INTO public.artifacts VALUES ('sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f', 'adapter', 'lora', 2, 128, 1, 'float32', 1216, '[]', '2026-11-21 22:25:06.27773+00');
INSERT INTO public.artifacts VALUES ('sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf', 'adapter', 'lora', 2, 128, 1, 'float32', 1216, '[]', '2026-11-21 22:25:06.392877+00');
INSERT INTO public.artifacts VALUES ('sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2', 'adapter', 'lora', 2, 128, 1, 'float32', 1216, '[]', '2026-11-21 22:25:06.473992+00');
INSERT INTO public.artifacts VALUES ('sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299', 'adapter', 'lora', 2, 128, 1, 'float32', 1216, '[]', '2026-11-21 22:25:06.576724+00');
INSERT INTO public.artifacts VALUES ('sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6', 'adapter', 'lora', 2, 128, 1, 'float32', 1216, '[]', '2026-11-21 22:25:06.707425+00');
INSERT INTO public.artifacts VALUES ('sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16', 'adapter', 'lora', 4, 256, 1, 'float32', 2097, '[]', '2026-11-21 22:25:06.813107+00');
INSERT INTO public.artifacts VALUES ('sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f', 'adapter', 'lora', 8, 512, 1, 'float32', 3121, '[]', '2026-11-21 22:25:06.995558+00');
INSERT INTO public.artifacts VALUES ('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e', 'model', 'model', NULL, 21664, 21, 'float32', 89668, '[]', '2026-11-21 22:25:07.210324+00');
INSERT INTO public.base_models VALUES (1, 'tiny/base', '', 'sha256:3ce55d2b756cc55523e47280b435b5deb9dfb7fdc11120e35c15f89ab4fbf24b');
INSERT INTO public.blobs VALUES ('sha256:1badf4e9814eeeb4906bce25fa41185b83623c87031b21d29356a01a9b82efb2', 792, '2026-11-21 22:25:06.272289+00');
INSERT INTO public.blobs VALUES ('sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4', 424, '2026-11-21 22:25:06.275524+00');
INSERT INTO public.blobs VALUES ('sha256:02fe97e820be1addacb0b80a51e8733fcbd4f3e64f84af016e8d851e1e2577cc', 792, '2026-11-21 22:25:06.387958+00');
INSERT INTO public.blobs VALUES ('sha256:f9c78384637a593c8a77f65bfcc65679f0c2b6f8bce856b3fea5e649d7171a02', 792, '2026-11-21 22:25:06.47371+00');
INSERT INTO public.blobs VALUES ('sha256:07e9eb1305cd188b247611a52b3b59c1f58ebf52d161c051c6f7268079b83c9d', 792, '2026-11-21 22:25:06.571715+00');
INSERT INTO public.blobs VALUES ('sha256:ed2b7e9476f6e6f6b28b6e2343c9fe94be5ed2742d834e8811e4e75444cb4333', 792, '2026-11-21 22:25:06.70613+00');
INSERT INTO public.blobs VALUES ('sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785', 449, '2026-11-21 22:25:06.81239+00');
INSERT INTO public.blobs VALUES ('sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832', 1648, '2026-11-21 22:25:06.812825+00');
INSERT INTO public.blobs VALUES ('sha256:2d1223d66397895968325f73120908926991debe82c95b7b40d37f59e734acda', 2672, '2026-11-21 22:25:06.994868+00');
INSERT INTO public.blobs VALUES ('sha256:f4d920c9c92e53bd29011d54a46a638338a4bd46831fc92a32cbc098dc24b678', 449, '2026-11-21 22:25:06.995284+00');
INSERT INTO public.blobs VALUES ('sha256:1113738beda64787778c7058b7689d0b4fc2e402c0c5b552916168a0e551a393', 195, '2026-11-21 22:25:07.20939+00');
INSERT INTO public.blobs VALUES ('sha256:745f2d9763207abd571c7f6ef822e23adde3fb5c28d4f5dda9f3e4d3fe80493a', 88760, '2026-11-21 22:25:07.209793+00');
INSERT INTO public.blobs VALUES ('sha256:87bbd2e1bf3d2f1cae8ddb87b0083b641fb7263dbb5133d01e39ab662bfade85', 713, '2026-11-21 22:25:07.210072+00');
INSERT INTO public.evaluations VALUES (1, 6, 'accuracy', 'd', 'test', 0.5, '2026-11-21 22:25:07.228557+00', 'ann');
INSERT INTO public.events VALUES (1, '2026-11-21 22:25:06.310175+00', 'ann', 'import', 'a@1', '{"digest": "sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f", "source": "/tmp/adapters/two/adapter0", "expression": null}');
INSERT INTO public.events VALUES (2, '2026-11-21 22:25:06.396097+00', 'ann', 'import', 'team/QA-lora@1', '{"digest": "sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf", "source": "/tmp/adapters/two/adapter1", "expression": null}');
INSERT INTO public.events VALUES (3, '2026-11-21 22:25:06.484418+00', 'ann', 'import', 'toxic@1', '{"digest": "sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2", "source": "/tmp/adapters/two/adapter2", "expression": null}');
INSERT INTO public.events VALUES (4, '2026-11-21 22:25:06.584832+00', 'ann', 'import', 'spare@1', '{"digest": "sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299", "source": "/tmp/adapters/two/adapter3", "expression": null}');
INSERT INTO public.events VALUES (5, '2026-11-21 22:25:06.717194+00', 'ann', 'import', 'a@2', '{"digest": "sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6", "source": "/tmp/adapters/two/next", "expression": null}');
INSERT INTO public.events VALUES (6, '2026-11-21 22:25:06.824043+00', 'ann', 'compose', 'mix@1', '{"digest": "sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16", "source": null, "expression": "0.5*a + 0.5*team/QA-lora"}');
INSERT INTO public.events VALUES (7, '2026-11-21 22:25:06.860607+00', 'ann', 'alias', 'mix', '{"to": 1, "from": null, "alias": "Prod"}');
INSERT INTO public.events VALUES (8, '2026-11-21 22:25:07.010116+00', 'ann', 'compose', 'far@1', '{"digest": "sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f", "source": null, "expression": "0.5*mix@prod + a@1 - 0.25*toxic"}');
INSERT INTO public.events VALUES (9, '2026-11-21 22:25:07.201238+00', 'ann', 'fingerprint', 'tiny/base', '{"fingerprint": "sha256:3ce55d2b756cc55523e47280b435b5deb9dfb7fdc11120e35c15f89ab4fbf24b"}');
INSERT INTO public.events VALUES (10, '2026-11-21 22:25:07.211822+00', 'ann', 'materialize', 'mix@1', '{"digest": "sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e", "target": "model"}');
INSERT INTO public.events VALUES (11, '2026-11-21 22:25:07.228575+00', 'ann', 'evaluate', 'mix@1', '{"split": "test", "value": 0.5, "metric": "accuracy", "dataset": "d", "previous": null}');
INSERT INTO public.events VALUES (12, '2026-11-21 22:25:07.251442+00', 'ann', 'delete', 'spare@1', '{"digest": "sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299"}');
INSERT INTO public.events VALUES (13, '2026-11-21 22:25:07.490432+00', 'ann', 'publish', 'mix@1', '{"repo": "team/mix", "commit": "e773fcc92bf6dd90479f8083eb0c87ee05fa6e77", "target": "adapter", "revision": "main"}');
INSERT INTO public.lineage VALUES (5, 0, 3, 'declared', NULL);
INSERT INTO public.lineage VALUES (6, 0, 5, 'input', '0.5');
INSERT INTO public.lineage VALUES (6, 1, 2, 'input', '0.5');
INSERT INTO public.lineage VALUES (7, 0, 6, 'input', '0.5');
INSERT INTO public.lineage VALUES (7, 1, 1, 'input', '1');
INSERT INTO public.lineage VALUES (7, 2, 3, 'input', '-0.25');
INSERT INTO public.publications VALUES (1, 'ae7e3f2fb7ca4f7eae579476763dac43', 6, 'team/mix', 'main', 'adapter', 'done', 'e773fcc92bf6dd90479f8083eb0c87ee05fa6e77', 'http://127.0.0.1:35527/team/mix/commit/e773fcc92bf6dd90479f8083eb0c87ee05fa6e77', '{"README.md": "sha256:d692b4cf8303f3a0d58c8c028ad34d869fdb8b580976f8468c889956179e427c", "provenance.json": "sha256:02736c9d5b35428ef9f0e51a185a8a5ef187a4ca1736d25024fbb8f665871517", "adapter_config.json": "sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785", "adapter_model.safetensors": "sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832"}', NULL, '2026-11-21 22:25:07.402727+00', 'ann', '2026-11-21 22:25:07.490387+00');
INSERT INTO public.realisations VALUES (1, 'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9', 'adapter', '', 'sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16', 'cpu', 'float32', 0, '{"torch": "2.13.0+cpu", "python": "3.11.7", "adapter-registry": "0.1.0"}', 0.0336072959980811, '[]', '{}', '2026-11-21 22:25:06.82409+00');
INSERT INTO public.realisations VALUES (2, 'sha256:44b16de08204844dcca5f2c4c74b8fbcca7d4f8e6fd96702b299635b56423c89', 'adapter', '', 'sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f', 'cpu', 'float32', 0, '{"torch": "2.13.0+cpu", "python": "3.11.7", "adapter-registry": "0.1.0"}', 0.07295791900105542, '[]', '{}', '2026-11-21 22:25:07.010164+00');
INSERT INTO public.realisations VALUES (3, 'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9', 'model', 'sha256:3c6319a49354b2c1cce45641d4b0ec34b053fa1bb3cb5b83260fcf2b7e5f9369', 'sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e', 'cpu', 'as the base', 0, '{"torch": "2.13.0+cpu", "python": "3.11.7", "adapter-registry": "0.1.0"}', 0.15469545499945525, '[]', '{"config.json": {"size": 713, "sha256": "sha256:87bbd2e1bf3d2f1cae8ddb87b0083b641fb7263dbb5133d01e39ab662bfade85"}, "model.safetensors": {"size": 88760, "sha256": "sha256:745f2d9763207abd571c7f6ef822e23adde3fb5c28d4f5dda9f3e4d3fe80493a"}, "generation_config.json": {"size": 195, "sha256": "sha256:1113738beda64787778c7058b7689d0b4fc2e402c0c5b552916168a0e551a393"}}', '2026-11-21 22:25:07.208187+00');
INSERT INTO public.recipes VALUES ('sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9', '{"algorithm":1,"dtype":"float32","expression":{"sum":[["0.5",{"adapter":"sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6"}],["0.5",{"adapter":"sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf"}]]},"format":1,"kind":"lora","seed":0}', '2026-11-21 22:25:06.821074+00');
INSERT INTO public.recipes VALUES ('sha256:44b16de08204844dcca5f2c4c74b8fbcca7d4f8e6fd96702b299635b56423c89', '{"algorithm":1,"dtype":"float32","expression":{"sum":[["0.5",{"adapter":"sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16"}],["-0.25",{"adapter":"sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2"}],["1",{"adapter":"sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f"}]]},"format":1,"kind":"lora","seed":0}', '2026-11-21 22:25:07.001076+00');
INSERT INTO public.tags VALUES (1, 'stage', 'new');
INSERT INTO public.tags VALUES (1, 'k', 'v');
INSERT INTO public.tags VALUES (2, 'stage', 'new');
INSERT INTO public.tags VALUES (2, 'k', 'v');
INSERT INTO public.tags VALUES (3, 'stage', 'new');
INSERT INTO public.tags VALUES (3, 'k', 'v');
INSERT INTO public.tags VALUES (4, 'stage', 'new');
INSERT INTO public.tags VALUES (4, 'k', 'v');
INSERT INTO public.versions VALUES (2, 2, 1, 'sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf', 1, NULL, NULL, NULL, 'chat', 'mit', 'the First, für Ärzte', '/tmp/adapters/two/adapter1', 2, '2026-11-21 22:25:06.395268+00', 'ann', NULL, NULL);
INSERT INTO public.versions VALUES (3, 3, 1, 'sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2', 1, NULL, NULL, NULL, 'chat', 'mit', 'not for use', '/tmp/adapters/two/adapter2', 3, '2026-11-21 22:25:06.479052+00', 'ann', NULL, NULL);
INSERT INTO public.versions VALUES (1, 1, 1, 'sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f', 1, NULL, NULL, NULL, 'chat', 'mit', NULL, '/tmp/adapters/two/adapter0', NULL, '2026-11-21 22:25:06.297882+00', 'ann', NULL, NULL);
INSERT INTO public.versions VALUES (5, 1, 2, 'sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6', 1, NULL, NULL, NULL, NULL, NULL, NULL, '/tmp/adapters/two/next', 1, '2026-11-21 22:25:06.712969+00', 'ann', NULL, NULL);
INSERT INTO public.versions VALUES (6, 5, 1, 'sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16', 1, 'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9', '0.5*a + 0.5*team/QA-lora', '0.5*a@2 + 0.5*team/QA-lora@1', NULL, NULL, 'half and half', NULL, 5, '2026-11-21 22:25:06.823144+00', 'ann', NULL, NULL);
INSERT INTO public.versions VALUES (7, 6, 1, 'sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f', 1, 'sha256:44b16de08204844dcca5f2c4c74b8fbcca7d4f8e6fd96702b299635b56423c89', '0.5*mix@prod + a@1 - 0.25*toxic', '0.5*mix@1 + a@1 - 0.25*toxic@1', NULL, NULL, NULL, NULL, 6, '2026-11-21 22:25:07.009139+00', 'ann', NULL, NULL);
INSERT INTO public.versions VALUES (4, 4, 1, 'sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299', 1, NULL, NULL, NULL, 'chat', 'mit', NULL, '/tmp/adapters/two/adapter3', NULL, '2026-11-21 22:25:06.580748+00', 'ann', '2026-11-21 22:25:07.244321+00', 'ann');
SELECT pg_catalog.setval('public.adapters_id_seq', 6, true);
SELECT pg_catalog.setval('public.base_models_id_seq', 1, true);
SELECT pg_catalog.setval('public.evaluations_id_seq', 1, true);
SELECT pg_catalog.setval('public.events_id_seq', 13, true);
SELECT pg_catalog.setval('public.publications_id_seq', 1, true);
SELECT pg_catalog.setval('public.realisations_id_seq', 3, true);
SELECT pg_catalog.setval('public.versions_id_seq', 7, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.adapters
    ADD CONSTRAINT pk_adapters PRIMARY KEY (id);
ALTER TABLE ONLY public.aliases
    ADD CONSTRAINT pk_aliases PRIMARY KEY (adapter_id, alias_key);
ALTER TABLE ONLY public.artifact_files
    ADD CONSTRAINT pk_artifact_files PRIMARY KEY (artifact_digest, path);
ALTER TABLE ONLY public.artifacts
    ADD CONSTRAINT pk_artifacts PRIMARY KEY (digest);
ALTER TABLE ONLY public.base_models
    ADD CONSTRAINT pk_base_models PRIMARY KEY (id);
ALTER TABLE ONLY public.blobs
    ADD CONSTRAINT pk_blobs PRIMARY KEY (digest);
ALTER TABLE ONLY public.evaluations
    ADD CONSTRAINT pk_evaluations PRIMARY KEY (id);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT pk_events PRIMARY KEY (id);
ALTER TABLE ONLY public.lineage
    ADD CONSTRAINT pk_lineage PRIMARY KEY (child_id, "position");
ALTER TABLE ONLY public.publications
    ADD CONSTRAINT pk_publications PRIMARY KEY (id);
ALTER TABLE ONLY public.realisations
    ADD CONSTRAINT pk_realisations PRIMARY KEY (id);
ALTER TABLE ONLY public.recipes
    ADD CONSTRAINT pk_recipes PRIMARY KEY (digest);
ALTER TABLE ONLY public.tags
    ADD CONSTRAINT pk_tags PRIMARY KEY (version_id, key);
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT pk_versions PRIMARY KEY (id);
ALTER TABLE ONLY public.adapters
    ADD CONSTRAINT uq_adapters_name_key UNIQUE (name_key);
ALTER TABLE ONLY public.base_models
    ADD CONSTRAINT uq_base_models_repo_revision UNIQUE (repo, revision);
ALTER TABLE ONLY public.evaluations
    ADD CONSTRAINT uq_evaluations_version_id_dataset_split_metric UNIQUE (version_id, dataset, split, metric);
ALTER TABLE ONLY public.lineage
    ADD CONSTRAINT uq_lineage_child_id_relation_parent_id UNIQUE (child_id, relation, parent_id);
ALTER TABLE ONLY public.publications
    ADD CONSTRAINT uq_publications_publish_id UNIQUE (publish_id);
ALTER TABLE ONLY public.realisations
    ADD CONSTRAINT uq_realisations_output UNIQUE (recipe_digest, target, variant, output_digest);
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT uq_versions_adapter_id_number UNIQUE (adapter_id, number);
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT uq_versions_latest_of UNIQUE (latest_of);
CREATE INDEX ix_aliases_adapter_id_number ON public.aliases USING btree (adapter_id, number);
CREATE INDEX ix_artifact_files_blob_digest ON public.artifact_files USING btree (blob_digest);
CREATE INDEX ix_events_subject ON public.events USING btree (subject);
CREATE INDEX ix_lineage_parent_id ON public.lineage USING btree (parent_id);
CREATE INDEX ix_publications_repo ON public.publications USING btree (repo);
CREATE INDEX ix_publications_version_id ON public.publications USING btree (version_id);
CREATE INDEX ix_realisations_output_digest ON public.realisations USING btree (output_digest);
CREATE INDEX ix_tags_key_value_version_id ON public.tags USING btree (key, value, version_id);
CREATE INDEX ix_versions_artifact_digest ON public.versions USING btree (artifact_digest);
CREATE INDEX ix_versions_base_model_id ON public.versions USING btree (base_model_id);
CREATE INDEX ix_versions_recipe_digest ON public.versions USING btree (recipe_digest);
CREATE INDEX ix_versions_task ON public.versions USING btree (task);
ALTER TABLE ONLY public.aliases
    ADD CONSTRAINT fk_aliases_adapter_id_number FOREIGN KEY (adapter_id, number) REFERENCES public.versions(adapter_id, number) ON DELETE RESTRICT;
ALTER TABLE ONLY public.artifact_files
    ADD CONSTRAINT fk_artifact_files_artifact_digest FOREIGN KEY (artifact_digest) REFERENCES public.artifacts(digest) ON DELETE RESTRICT;
ALTER TABLE ONLY public.artifact_files
    ADD CONSTRAINT fk_artifact_files_blob_digest FOREIGN KEY (blob_digest) REFERENCES public.blobs(digest) ON DELETE RESTRICT;
ALTER TABLE ONLY public.evaluations
    ADD CONSTRAINT fk_evaluations_version_id FOREIGN KEY (version_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.lineage
    ADD CONSTRAINT fk_lineage_child_id FOREIGN KEY (child_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.lineage
    ADD CONSTRAINT fk_lineage_parent_id FOREIGN KEY (parent_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.publications
    ADD CONSTRAINT fk_publications_version_id FOREIGN KEY (version_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.realisations
    ADD CONSTRAINT fk_realisations_recipe_digest FOREIGN KEY (recipe_digest) REFERENCES public.recipes(digest) ON DELETE RESTRICT;
ALTER TABLE ONLY public.tags
    ADD CONSTRAINT fk_tags_version_id FOREIGN KEY (version_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT fk_versions_adapter_id FOREIGN KEY (adapter_id) REFERENCES public.adapters(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT fk_versions_artifact_digest FOREIGN KEY (artifact_digest) REFERENCES public.artifacts(digest) ON DELETE RESTRICT;
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT fk_versions_base_model_id FOREIGN KEY (base_model_id) REFERENCES public.base_models(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT fk_versions_latest_of FOREIGN KEY (latest_of) REFERENCES public.adapters(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT fk_versions_recipe_digest FOREIGN KEY (recipe_digest) REFERENCES public.recipes(digest) ON DELETE RESTRICT;
